"""Maps the top folders to the ``ringtrue`` namespace (PEP 420) and finds their subpackages."""

from setuptools import find_packages, setup

ROOTS = ("agent", "streaming", "telephony", "voices", "loadtest", "config")

packages = [f"ringtrue.{root}" for root in ROOTS]
packages += [f"ringtrue.{root}.{sub}" for root in ROOTS for sub in find_packages(root)]

setup(packages=packages, package_dir={f"ringtrue.{root}": root for root in ROOTS})
