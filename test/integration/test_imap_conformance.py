"""What IMAP announces works, and is refused where it is used wrongly: each command once so and once so.

RFC 3501 with the extensions that `CAPABILITY` names. A capability that is new here fails a test until it is asked for.
"""

import imaplib
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from test.relay.delivery import User
from test.support.mail_clients import ImapClient, ImapError, unchecked_tls

ON_BOTH_RELEASES = True

TEXT = (
    "From: One <one@example.org>\r\nTo: two@example.org\r\nSubject: Number %d\r\nMessage-ID: <%d@example.org>\r\n"
    "References: <1@example.org>\r\nDate: Fri, 27 Nov 2026 12:00:0%d +0000\r\nMIME-Version: 1.0\r\n"
    'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    "--b\r\nContent-Type: text/plain\r\n\r\nhello %d\r\n"
    "--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--b--\r\n"
)
MESSAGES = [TEXT % (number, number, number, number) for number in (1, 2, 3)]


def literal(text: str) -> str:
    """A non-synchronizing literal (RFC 7888)."""
    return f"{{{len(text)}+}}\r\n{text}"


@dataclass(frozen=True)
class Case:
    """Commands for a client that has INBOX selected, with three messages.

    ``right`` are sent one after the other; the responses to the last one match ``answer``. ``wrong`` is refused with
    ``refusal``. ``capability`` is what announces the command, nothing for those of RFC 3501.
    """

    right: tuple[str, ...]
    answer: str
    wrong: str
    refusal: str
    capability: str = ""


def case(right: str | tuple[str, ...], answer: str, wrong: str, refusal: str, capability: str = "") -> Case:
    return Case((right,) if isinstance(right, str) else right, answer, wrong, refusal, capability)


CASES = [
    case("CAPABILITY", r"\* CAPABILITY IMAP4rev1 ", "CAPABILITIES", "BAD"),
    case("NOOP", "", "NOP", "BAD"),
    case("SELECT INBOX", r"\* 3 EXISTS\n", "SELECT Nowhere", "NO"),
    case("EXAMINE INBOX", r"\* OK \[UIDVALIDITY \d+\]", "EXAMINE", "BAD"),
    case(("CREATE Box", 'LIST "" Box'), r"\* LIST \(.*\) \"\.\" Box\n", "CREATE INBOX", r"NO \[ALREADYEXISTS\]"),
    case(("CREATE Box", "DELETE Box", 'LIST "" Box'), r"\A\Z", "DELETE Nowhere", r"NO \[NONEXISTENT\]"),
    case(("CREATE Box", "RENAME Box Bag", 'LIST "" B*'), r" Bag\n\Z", "RENAME Nowhere Bag", r"NO \[NONEXISTENT\]"),
    case(("CREATE Box", "SUBSCRIBE Box", 'LSUB "" *'), r"\* LSUB \(\) \"\.\" Box\n", "SUBSCRIBE", "BAD"),
    case(("CREATE Box", "SUBSCRIBE Box", "UNSUBSCRIBE Box", 'LSUB "" *'), r"\A\Z", "UNSUBSCRIBE", "BAD"),
    case('LIST "" %', r"\* LIST \(.*\) \"\.\" INBOX\n", 'LIST ""', "BAD"),
    case('LSUB "" %', "", 'LSUB ""', "BAD"),
    case("STATUS INBOX (MESSAGES UIDNEXT)", r"\* STATUS INBOX \(MESSAGES 3 UIDNEXT 4\)", "STATUS INBOX (SHOES)", "BAD"),
    case(
        f"APPEND INBOX (\\Seen) {literal(MESSAGES[0])}",
        r"\* 4 EXISTS\n",
        "APPEND Nowhere {1+}\r\nx",
        r"NO \[TRYCREATE\]",
    ),
    case("CHECK", "", "CHECKS", "BAD"),
    case("CLOSE", "", "CLOSED", "BAD"),
    case(("STORE 2 +FLAGS (\\Deleted)", "EXPUNGE"), r"\* 2 EXPUNGE\n", "EXPUNGED", "BAD"),
    case("SEARCH SUBJECT 2", r"\* SEARCH 2\n", "SEARCH SHOES", "BAD"),
    case("SEARCH CHARSET UTF-8 BODY hello", r"\* SEARCH 1 2 3\n", "SEARCH CHARSET X-NONE ALL", r"NO \[BADCHARSET"),
    case("FETCH 1 (FLAGS RFC822.SIZE)", r"\* 1 FETCH \(FLAGS \(.*\) RFC822.SIZE \d+\)", "FETCH 9 FLAGS", "BAD"),
    case("FETCH 1 (ENVELOPE INTERNALDATE)", r'ENVELOPE \(.* "Number 1" ', "FETCH 1 (SHOES)", "BAD"),
    case("FETCH 1 BODYSTRUCTURE", r'"octet-stream" .* "mixed"', "FETCH 1 (BODYSTRUCTURE", "BAD"),
    case("FETCH 1 BODY.PEEK[1]<0.5>", r"BODY\[1\]<0> \{5\}\)hello\n", "FETCH 1 BODY.PEEK[1]<x.5>", "BAD"),
    case("FETCH 2 BODY.PEEK[HEADER.FIELDS (SUBJECT)]", r"Subject: Number 2", "FETCH 2 BODY.PEEK[HEADER.FIELDS]", "BAD"),
    case("STORE 1 FLAGS (\\Answered)", r"\* 1 FETCH \(FLAGS \(\\Answered", "STORE 1 FLAGS (\\Shoes)", "BAD"),
    case(("CREATE Box", "COPY 1:2 Box", "STATUS Box (MESSAGES)"), r"MESSAGES 2", "COPY 1 Nowhere", r"NO \[TRYCREATE\]"),
    case("UID FETCH 2 FLAGS", r"\* 2 FETCH \(UID 2 ", "UID NOOP", "BAD"),
    case("UID SEARCH 3", r"\* SEARCH 3\n", "UID SEARCH SHOES", "BAD"),
    case("UID STORE 3 +FLAGS.SILENT (\\Seen)", "", "UID STORE 3 +SHOES (\\Seen)", "BAD"),
    case("LOGOUT", r"\* BYE ", "LOGOFF", "BAD"),
    # RFC 2971
    case('ID ("name" "test")', r"\* ID \(\"name\" \"Dovecot\"", "ID (name", "BAD", "ID"),
    # RFC 5161
    case("ENABLE CONDSTORE", r"\* ENABLED CONDSTORE\n", "ENABLED CONDSTORE", "BAD", "ENABLE"),
    # RFC 5256, RFC 5957
    case("SORT (REVERSE DATE) UTF-8 ALL", r"\* SORT 3 2 1\n", "SORT (SHOES) UTF-8 ALL", "BAD", "SORT"),
    case("SORT (DISPLAYFROM) UTF-8 ALL", r"\* SORT 1 2 3\n", "SORT () UTF-8 ALL", "BAD", "SORT=DISPLAY"),
    case("THREAD REFERENCES UTF-8 ALL", r"\* THREAD \(1", "THREAD SHOES UTF-8 ALL", "BAD", "THREAD=REFERENCES"),
    case("THREAD REFS UTF-8 ALL", r"\* THREAD \(1", "THREAD REFS UTF-8", "BAD", "THREAD=REFS"),
    case(
        "THREAD ORDEREDSUBJECT UTF-8 ALL", r"\* THREAD \(1\)", "THREAD ORDEREDSUBJECT", "BAD", "THREAD=ORDEREDSUBJECT"
    ),
    # RFC 3502
    case(
        f"APPEND INBOX {literal(MESSAGES[0])} {literal(MESSAGES[1])}",
        r"\* 5 EXISTS\n",
        f"APPEND INBOX {literal(MESSAGES[0])} shoes",
        "BAD",
        "MULTIAPPEND",
    ),
    # RFC 4469, RFC 5550
    case(
        'APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;SECTION=HEADER" TEXT {2+}\r\nhi)',
        r"\* 4 EXISTS\n",
        'APPEND INBOX CATENATE (URL "/Nowhere/;UID=1")',
        r"NO \[BADURL",
        "CATENATE",
    ),
    case(
        'APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;PARTIAL=0.100")',
        r"\* 4 EXISTS\n",
        'APPEND INBOX CATENATE (URL "/INBOX/;UID=1/;PARTIAL=x")',
        r"NO \[BADURL",
        "URL-PARTIAL",
    ),
    # RFC 3691
    case("UNSELECT", "", "UNSELECTED", "BAD", "UNSELECT"),
    # RFC 3348 and 5258
    case(("CREATE A.B", 'LIST "" A'), r"\\HasChildren", 'LIST (SHOES) "" *', "BAD", "CHILDREN"),
    case('LIST (SUBSCRIBED) "" *', "", 'LIST (RECURSIVEMATCH) "" *', "BAD", "LIST-EXTENDED"),
    # RFC 2342
    case("NAMESPACE", r"\* NAMESPACE \(\(\"\" \"\.\"\)\) NIL NIL", "NAMESPACES", "BAD", "NAMESPACE"),
    # RFC 4315
    case(("STORE 1:2 +FLAGS (\\Deleted)", "UID EXPUNGE 2"), r"\A\* 2 EXPUNGE\n", "UID EXPUNGE x", "BAD", "UIDPLUS"),
    # RFC 5255
    case("SEARCH SUBJECT NUMBER", r"\* SEARCH 1 2 3\n", "SEARCH SUBJECT", "BAD", "I18NLEVEL=1"),
    # RFC 7162
    case("FETCH 1:* (FLAGS) (CHANGEDSINCE 1)", "", "FETCH 1 (FLAGS) (CHANGEDSINCE x)", "BAD", "CONDSTORE"),
    case(
        ("ENABLE QRESYNC", "SELECT INBOX (QRESYNC (1 1))"),
        r"\[HIGHESTMODSEQ \d+\]",
        "SELECT INBOX (QRESYNC (x))",
        "BAD",
        "QRESYNC",
    ),
    # RFC 4731, RFC 5267, RFC 5182, RFC 5032
    case("SEARCH RETURN (MAX COUNT) ALL", r"\* ESEARCH .*MAX 3 COUNT 3", "SEARCH RETURN (SHOES) ALL", "BAD", "ESEARCH"),
    case("SORT RETURN (COUNT) (DATE) UTF-8 ALL", r"COUNT 3", "SORT RETURN (SHOES) (DATE) UTF-8 ALL", "BAD", "ESORT"),
    case(("SEARCH RETURN (SAVE) 2", "FETCH $ UID"), r"\A\* 2 FETCH", "FETCH $2 UID", "BAD", "SEARCHRES"),
    case("SEARCH YOUNGER 3600", r"\* SEARCH 1 2 3\n", "SEARCH YOUNGER x", "BAD", "WITHIN"),
    case(
        "SEARCH RETURN (PARTIAL 1:2) ALL",
        r"PARTIAL \(1:2 1:2\)",
        "SEARCH RETURN (PARTIAL x) ALL",
        "BAD",
        "CONTEXT=SEARCH",
    ),
    # RFC 5819
    case(
        'LIST "" INBOX RETURN (STATUS (MESSAGES))',
        r"\* STATUS INBOX \(MESSAGES 3\)",
        'LIST "" INBOX RETURN (STATUS)',
        "BAD",
        "LIST-STATUS",
    ),
    # RFC 3516
    case("FETCH 1 BINARY.PEEK[2]", "BINARY\\[2\\] .*\x00\x01\x02", "FETCH 1 BINARY.PEEK[x]", "BAD", "BINARY"),
    # RFC 6851
    case(("CREATE Box", "MOVE 1 Box"), r"\* 1 EXPUNGE\n", "MOVE 1 Nowhere", r"NO \[TRYCREATE\]", "MOVE"),
    # RFC 8508
    case(f"REPLACE 1 INBOX {literal(MESSAGES[2])}", r"\* 1 EXPUNGE\n", "REPLACE 9 INBOX {1+}\r\nx", "BAD", "REPLACE"),
    # RFC 8970
    case("FETCH 1 PREVIEW", r'PREVIEW "hello 1"', "FETCH 1 (PREVIEW (SHOES))", "BAD", "PREVIEW"),
    case("FETCH 1 (PREVIEW (FUZZY))", "hello 1", "FETCH 1 (PREVIEW (", "BAD", "PREVIEW=FUZZY"),
    case("FETCH 1 (SNIPPET (FUZZY))", "hello 1", "FETCH 1 (SNIPPET (SHOES))", "BAD", "SNIPPET=FUZZY"),
    # RFC 8438, RFC 8514
    case("STATUS INBOX (SIZE)", r"\* STATUS INBOX \(SIZE \d+\)", "STATUS INBOX (SIZES)", "BAD", "STATUS=SIZE"),
    case("FETCH 1 SAVEDATE", r'SAVEDATE "', "SEARCH SAVEDBEFORE x", "BAD", "SAVEDATE"),
    # RFC 5465
    case("NOTIFY SET (SELECTED (MessageNew MessageExpunge))", "", "NOTIFY SET (SHOES (MessageNew))", "BAD", "NOTIFY"),
    # RFC 5464
    case(
        'GETMETADATA "" /shared/vendor/deltachat/maxsmtprecipients',
        r"maxsmtprecipients \{4\}\)1000\n",
        'GETMETADATA "" shared',
        "BAD",
        "METADATA",
    ),
    case("SETMETADATA INBOX (/private/comment NIL)", "", 'SETMETADATA INBOX (/private/comment "x")', "NO", "METADATA"),
    case(
        ("SETMETADATA INBOX (/private/devicetoken token1)", "GETMETADATA INBOX /private/devicetoken"),
        "token1",
        "SETMETADATA Nowhere (/private/devicetoken NIL)",
        "NO",
        "METADATA",
    ),
    # RFC 6154
    case('LIST "" * RETURN (SPECIAL-USE)', r"\* LIST ", 'LIST (SPECIAL-SHOES) "" *', "BAD", "SPECIAL-USE"),
    # RFC 9208
    case("GETQUOTAROOT INBOX", r"\* QUOTA \"User quota\" \(STORAGE \d+ 512000", "GETQUOTAROOT", "BAD", "QUOTA"),
    case('GETQUOTA "User quota"', r"\* QUOTA ", 'GETQUOTA "Shoes"', "NO", "QUOTA"),
    case("NOOP", "", 'SETQUOTA "User quota" (STORAGE 1)', "NO", "QUOTA"),
]

# Asked for by tests of their own below, or words for which there is no command.
OTHER_CAPABILITIES = {
    "IMAP4rev1",
    "SASL-IR",
    "LITERAL+",
    "IDLE",
    "LOGIN-REFERRALS",
    "XDELTAPUSH",
    "XCHATMAIL",
    "INPROGRESS",
}


@pytest.fixture
def client(alice: User) -> Iterator[ImapClient]:
    """A client with three messages in INBOX, which is selected."""
    with alice.imap() as client:
        client.command(f"APPEND INBOX {' '.join(map(literal, MESSAGES))}")
        client.select()
        yield client


def answer(client: ImapClient, line: str) -> str:
    """The untagged responses to a command, one in a line, their literals at its end."""
    found = client.command(line)
    return "".join(b"".join([response.line, *response.literals]).decode("latin-1") + "\n" for response in found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.right[-1].split(" {")[0][:40])
def test_a_command_is_answered_and_its_wrong_use_refused(client: ImapClient, case: Case):
    if case.capability and case.capability not in capabilities(client):
        pytest.skip(f"{case.capability} is not announced")
    with pytest.raises(ImapError, match=rf"^\S+ t\d+ ({case.refusal})"):
        client.command(case.wrong)
    for line in case.right[:-1]:
        client.command(line)
    assert re.search(case.answer, answer(client, case.right[-1]), re.DOTALL)


def capabilities(client: ImapClient) -> set[str]:
    return set(answer(client, "CAPABILITY").split()[2:])


def test_each_capability_that_is_announced_is_asked_for_here(client: ImapClient):
    assert capabilities(client) <= OTHER_CAPABILITIES | {case.capability for case in CASES}


def test_idle_tells_of_messages_until_done(client: ImapClient, alice: User):
    client.idle()
    with pytest.raises(ImapError, match="BAD"):
        client.done("NOOP")
    client.idle()
    with alice.imap() as other:
        other.command(f"APPEND INBOX {literal(MESSAGES[0])}")
    assert client.wait_exists(4, client.timeout_s)
    client.done()
    client.command("NOOP")


def test_authenticate_takes_the_first_answer_with_the_command(alice: User):
    plain = b64encode(f"\0{alice.address}\0{alice.password}".encode()).decode()
    with ImapClient(alice.relay.address) as client:
        assert "SASL-IR" in client.greeting.decode()
        for wrong in ("AUTHENTICATE SHOES", f"AUTHENTICATE PLAIN {plain} more", "AUTHENTICATE"):
            with pytest.raises(ImapError, match=r"NO|BAD"):
                client.command(wrong)
        client.command(f"AUTHENTICATE PLAIN {plain}")
        with pytest.raises(ImapError, match="BAD"):
            client.login(alice.address, alice.password)


def test_no_password_goes_in_clear_and_literals_may_wait(alice: User):
    with imaplib.IMAP4(alice.relay.address) as client:
        assert {"STARTTLS", "LOGINDISABLED"} <= set(client.capabilities)
        with pytest.raises(client.error, match=r"PRIVACYREQUIRED|disabled"):
            client.login(alice.address, alice.password)
        client.starttls(unchecked_tls())
        with pytest.raises(client.error):
            client.starttls(unchecked_tls())
        client.login(alice.address, alice.password)
        # A literal for which the client waits until it is told to go on (RFC 3501 section 4.3).
        status, _ = client.append("INBOX", None, None, MESSAGES[0].encode())
        assert status == "OK"
