"""What every enrolment is checked for, one module a check.

A check is ``check(evidence) -> Finding``: blocking, a function of the evidence alone, with its
threshold in its code. No setting reaches any of them.
"""
