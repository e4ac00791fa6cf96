"""The text of the web page's QR code is all that Delta Chat's core needs to make an address and to use it."""

import html
import re
import urllib.request
from urllib.parse import urljoin

from test.relay import chat
from test.relay.delivery import Relay
from test.support import qr_code
from test.support.mail_clients import unchecked_tls


def scanned(relay: Relay) -> str:
    """What a phone reads from the QR code on the relay's first page."""

    def load(path: str) -> str:
        request = urllib.request.Request(urljoin(f"https://{relay.address}", path), headers={"Host": relay.domain})
        with urllib.request.urlopen(request, timeout=20, context=unchecked_tls()) as answer:
            return answer.read().decode()

    image = re.search(r'<img [^>]*src="([^"]*\bqr\b[^"]*)"', load("/"))[1]
    return qr_code.read(load(html.unescape(image)))


def test_two_phones_that_scan_the_code_talk_with_each_other(lab, one, tmp_path):
    who = [("heidi", one.domain), ("ivan", one.domain)]
    with chat.clients(who, lab.resolver_argv, tmp_path, lambda _: scanned(one)) as (heidi, ivan):
        assert heidi.address != ivan.address
        assert heidi.address.endswith(f"@{one.domain}")
        heidi_chat, ivan_chat = chat.make_contact(heidi, ivan)
        assert len(chat.round_trips(heidi, heidi_chat, ivan, ivan_chat, 1)) == 1
