"""Change notifications: messages of the project's triggers are parsed, others ignored."""

from hypothesis import given
from hypothesis import strategies as st

from extauthz.core.changes import Change, EntityRef, parse_change

ID = "0b5c4f5e-8a52-4c58-9d5e-0f4f6a1f7a10"


def test_fence_of_a_change() -> None:
    """The fence is one above the transaction, because a read of that number may have been made while it was open."""
    assert parse_change(f"api_key {ID} 741") == Change(EntityRef("api_key", ID), 742)
    assert parse_change(f"organization {ID} 741") == Change(EntityRef("organization", ID), 742)
    assert parse_change(f"plan {ID} 741") == Change(EntityRef("plan", ID), 742)


def test_ids_of_other_tables() -> None:
    """Ids of other tables may be any printable text, blanks included; the number is the last word."""
    assert parse_change("api_key acme inc. 7 12") == Change(EntityRef("api_key", "acme inc. 7"), 13)


INVALID = [
    "",
    "api_key",
    f"api_key {ID}",
    f"api_key {ID} ",
    f"api_key {ID} -1",
    f"api_key {ID} 1.5",
    f"api_key {ID} \u0661",
    f"api_key {ID} {'9' * 20}",
    f" api_key {ID} 741",
    f"api_key {ID} 741\n",
    f"api_key {ID} 741 more",
    f"API_KEY {ID} 741",
    f"everything {ID} 741",
    "everything  741",
    f"usage {ID} 741",
    "api_key  741",
    "api_key caf\u00e9 741",
    "api_key a\x00b 741",
    f"api_key {'i' * 256} 741",
]


def test_invalid_messages() -> None:
    """Any client may send on the channel: an invalid message changes nothing."""
    assert [message for message in INVALID if parse_change(message) is not None] == []


@given(st.text(max_size=60))
def test_any_text_is_a_change_or_nothing(message: str) -> None:
    """No message, however made, is an error."""
    change = parse_change(message)
    assert change is None or change.fence > 0
