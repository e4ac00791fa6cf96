"""The operator's own pages come from the controller."""


def test_own_pages_that_are_not_there_are_named(renderer):
    pillar = {"mail_domain": "chat.example.org", "www_folder": "salt://nowhere"}
    low = {state["__id__"]: state for state in renderer.low(pillar, "chatmail.website")}
    assert low["website-own-sources"]["state"] == "test"
    assert "no file below etc/roots/nowhere" in low["website-own-sources"]["comment"]
    assert "website-own-sources" in str(low["website-built"]["require"])


def test_own_pages_that_are_there_are_taken(renderer):
    # Any directory below etc/roots will do.
    pillar = {"mail_domain": "chat.example.org", "www_folder": "salt://chatmail/website"}
    low = {state["__id__"]: state for state in renderer.low(pillar, "chatmail.website")}
    assert low["website-own-sources"]["source"] == "salt://chatmail/website"
    assert low["website-built"]["own"].endswith("/own")
