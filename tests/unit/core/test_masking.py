from extauthz.core.masking import masked, shown

KEY = "xa_live_4XAd33hTkSPZ8rjJSJa67vsMtvP1om4z1"


SHOWN = {
    "acme": "acme",
    "": "",
    "Acme & Sons, of Köln am Rhein": "Acme & Sons, of Köln am Rhein",
    "6e2b1fdb-aa34-4ce3-b10e-7f2c47957726": "6e2b1fdb-aa34-4ce3-b10e-7f2c47957726",
    "x" * 15: "x" * 15,
    "x" * 16: "xxxx…",
    KEY: "xa_l…",
    f"{KEY}:read": "xa_l…:read",
    f"the key {KEY}": "the key xa_l…",
    f"6e2b1fdb-aa34-4ce3-b10e-7f2c47957726{KEY}": "6e2b…",
    "c2VjcmV0IHNlY3JldCBz/ZWNy+ZXQ==": "c2Vj…==",
    "? " * 100: "? " * 32,
}


def test_shown() -> None:
    """Ids, short words and blanks are repeated, at most 64 characters; of a possible key only its first four."""
    assert {text: shown(text) for text in SHOWN} == SHOWN


def test_masked() -> None:
    """A message of any length keeps all but possible keys."""
    message = "no such command; see the help, " * 10
    assert masked(message) == message
    assert masked(message + KEY) == message + "xa_l…"
