"""Word lists for :mod:`ringtrue.streaming.normalize`: months, units, abbreviations, acronyms."""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MONTHS: Final = {
    "January": 1,
    "February": 2,
    "March": 3,
    "April": 4,
    "May": 5,
    "June": 6,
    "July": 7,
    "August": 8,
    "September": 9,
    "October": 10,
    "November": 11,
    "December": 12,
    "Jan": 1,
    "Feb": 2,
    "Mar": 3,
    "Apr": 4,
    "Jun": 6,
    "Jul": 7,
    "Aug": 8,
    "Sept": 9,
    "Sep": 9,
    "Oct": 10,
    "Nov": 11,
    "Dec": 12,
}
"""Month names, full names first, with their numbers."""

UNITS: Final = {
    "%": ("percent", "percent"),
    "°C": ("degree celsius", "degrees celsius"),
    "°F": ("degree fahrenheit", "degrees fahrenheit"),
    "°": ("degree", "degrees"),
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "kg": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "g": ("gram", "grams"),
    "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "m": ("meter", "meters"),
    "mi": ("mile", "miles"),
    "ft": ("foot", "feet"),
    "lb": ("pound", "pounds"),
    "lbs": ("pounds", "pounds"),
    "oz": ("ounce", "ounces"),
    "ml": ("milliliter", "milliliters"),
    "l": ("liter", "liters"),
    "L": ("liter", "liters"),
    "kB": ("kilobyte", "kilobytes"),
    "KB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "W": ("watt", "watts"),
    "kW": ("kilowatt", "kilowatts"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "V": ("volt", "volts"),
    "ms": ("millisecond", "milliseconds"),
    "sec": ("second", "seconds"),
    "secs": ("seconds", "seconds"),
    "min": ("minute", "minutes"),
    "mins": ("minutes", "minutes"),
    "hr": ("hour", "hours"),
    "hrs": ("hours", "hours"),
    "USD": ("dollar", "dollars"),
    "EUR": ("euro", "euros"),
    "GBP": ("pound", "pounds"),
}
"""Units that may follow a number, with their names for one and for many."""

ABBREVIATIONS: Final = {
    "Dr": "doctor",
    "Mr": "mister",
    "Mrs": "missus",
    "Ms": "miz",
    "Prof": "professor",
    "Sr": "senior",
    "Jr": "junior",
    "Mt": "mount",
    "Ave": "avenue",
    "Blvd": "boulevard",
    "Rd": "road",
    "Ln": "lane",
    "Apt": "apartment",
    "Dept": "department",
    "dept": "department",
    "Ext": "extension",
    "ext": "extension",
    "Inc": "incorporated",
    "Ltd": "limited",
    "Corp": "corporation",
    "Gov": "governor",
    "Sgt": "sergeant",
    "Capt": "captain",
    "Rev": "reverend",
    "approx": "approximately",
    "appt": "appointment",
    "tel": "telephone",
    "Tel": "telephone",
    "etc": "et cetera",
    "vs": "versus",
    "e.g": "for example",
    "E.g": "for example",
    "i.e": "that is",
    "I.e": "that is",
    "a.k.a": "also known as",
    "Mon": "monday",
    "Tue": "tuesday",
    "Tues": "tuesday",
    "Wed": "wednesday",
    "Thu": "thursday",
    "Thurs": "thursday",
    "Fri": "friday",
}
"""Abbreviations written with a full stop, which isn't repeated here."""

SYMBOLS: Final = {
    "&": "and",
    "%": "percent",
    "+": "plus",
    "=": "equals",
    "@": "at",
    "°": "degrees",
}
"""Symbols that are said on their own. Others are passed over in silence."""

DIGITWISE_AFTER: Final = _words(
    "account booking case code confirmation customer ext extension id invoice number order pin "
    "policy reference ref ticket tracking zip postcode"
)
"""Words after which a number is an identifier and is read digit by digit."""

_SPELLED: Final = _words("EMEA IBAN UEFA OECD USPS UNHCR")
"""Longer acronyms with vowels that are nevertheless spelled."""

_SAID: Final = _words(
    # acronyms said as words
    "PIN SIM RAM ROM FAQ OK ZIP CAT GIF "
    # words that are written in capitals for stress
    "A I AM AN AS AT BE BY DO GO HE HI IF IN IS ME MY NO OF ON OR SO TO UP WE "
    "ALL AND ANY ARE ASK BAD BUT CAN DAY DID FOR GET GOT HAD HAS HER HIM HIS HOT HOW ITS LET "
    "MAY MRS NEW NOT NOW OFF OLD ONE OUR OUT PAY SAY SEE SHE SIR THE TOO TOP TRY TWO USE WAS "
    "WAY WHO WHY WIN YES YET YOU"
)

_VOWELS: Final = frozenset("AEIOUY")


def is_spelled(capitals: str) -> bool:
    """Whether a word in capitals is said letter by letter.

    Two and three letters are (``US``, ``FBI``) unless they make a word; longer ones only if they
    are listed or have no vowel.
    """
    if capitals in _SAID:
        return False
    return len(capitals) <= 3 or capitals in _SPELLED or not _VOWELS.intersection(capitals)
