"""Sentences that voices are measured by: heard by no fit, and chosen for no voice."""

from __future__ import annotations

from typing import Final

MEASURED: Final = (
    "Good evening, this is the booking line of the harbour hotel.",
    "Which day would suit you best, Monday or Tuesday?",
    "I can offer you a double room with a view of the garden.",
    "Breakfast is served from seven until half past ten.",
    "May I have your first name and the spelling of your surname?",
    "The bus to the airport stops right across the street.",
    "Your key card is waiting for you at the desk downstairs.",
    "We accept all major cards, and of course you may pay in cash.",
    "There was a mistake on the bill, which we have put right.",
    "Would you prefer to hear the message again, or shall I delete it?",
    "The doctor asked me to tell you that your results are normal.",
    "Please bring the form with you, signed by both parents.",
    "Our technician called twice, but nobody opened the door.",
    "You still have eleven days to return the shoes.",
    "The train on platform nine leaves at sixteen minutes past four.",
    "I have noted that you are allergic to nuts and shellfish.",
    "Could you speak a little louder, the line is rather poor.",
    "Their new branch opens in August, close to the old market square.",
    "One moment, I am going to check the stock in our other shop.",
    "The guarantee covers parts and labour for three years.",
    "Your password must have at least twelve characters.",
    "Shall I book a taxi for you, or will you drive yourself?",
    "The price is eighty nine pounds, and delivery is free.",
    "Thank you very much for your call, and enjoy the weekend.",
)
"""About 70 s of speech and 240 words, such as agents say."""
