"""Sentences for the fit: some to learn a base voice's sounds from, others to judge the clone by.

They are what agents say on the telephone, and hold every phone of US English many times.
"""

from __future__ import annotations

from typing import Final

LEARNING: Final = (
    "Good morning, you have reached the front desk, how may I help you?",
    "Your table for five is booked on Thursday the ninth at a quarter past seven.",
    "Would you like me to read the address back to you once more?",
    "The engineer should be with you between noon and two this afternoon.",
    "I am afraid that the office is closed today, but you can leave a message.",
    "Please choose one of these: billing, repairs, or a new subscription.",
    "We have sent the invoice to the email address on your account.",
    "That usually takes three working days, although it could be sooner.",
    "Both of the earlier flights are full, so shall I put you on the next one?",
    "Thanks for waiting, I found the order you were asking about.",
    "If anything changes, just give us a ring and we will sort it out.",
    "The measure was a pleasure for each of the judges who watched the show.",
    "Few young boys enjoy cooking, yet you would be surprised how good they are.",
    "My brother threw the heavy leather jacket over the rough wooden bench.",
    "She sells fresh fish, shrimp and other seafood down by the harbour wall.",
    "A large orange moon rose over the quiet village and its frozen lake.",
    "Zero, one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve.",
    "We usually play outside, but the garage roof could collapse under the snow.",
)
"""Spoken by each base voice once for every fit; about 65 s."""

JUDGING: Final = (
    "Thank you for calling, I will connect you with someone from our service team.",
    "Your next appointment is on Wednesday the third of June at half past nine.",
    "Could you tell me the last four digits of the card you paid with?",
    "I have moved your reservation to Saturday evening, for six people by the window.",
    "The parcel left our warehouse yesterday and should reach you before Friday.",
    "There is no charge for that, but we do need a signature when you arrive.",
    "Let me check that I understood: you want to cancel the second booking only?",
    "Our opening hours are eight to five from Monday through Thursday.",
    "Please hold while I look up the details of your policy.",
    "The total comes to forty seven dollars and twenty cents, including tax.",
    "You should see the refund in your bank account within ten days.",
    "I am sorry about the delay, the driver is stuck in traffic near the bridge.",
    "Press the green button twice, then wait until the light stops flashing.",
    "Shall I send a reminder by text message on the day before your visit?",
    "Everything is ready for you, so have a safe journey and goodbye.",
)
"""Spoken by the clone and by its base voice, and recognized."""
