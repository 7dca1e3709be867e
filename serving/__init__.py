"""How decisions reach the venue: bars in, one decision a contract and bar close, answers from memory."""
