"""Mail that waits in Postfix's queue, by destination: how much, since when, why; trying again, and dropping it."""

import json
import subprocess
from collections import Counter

import chatmail_reach
from chatmail_errors import CommandExecutionError

PATIENCE_S = 120
REASON_MAX = 300  # characters
# How many different reasons of one destination are told apart; servers write serial numbers into their replies.
REASONS_MAX = 1000

__func_alias__ = {"list_": "list"}
__outputter__ = {"list_": "chatmail"}


def __virtual__():
    return "chatmail_queue"


def destination_of(address):
    """
    Return the destination of a recipient's address: its domain in lower case.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_queue.destination_of alice@example.org
    """
    return address.rpartition("@")[2].lower()


def _messages():
    """Each message that waits, as postqueue(1) describes it in JSON."""
    with subprocess.Popen(["postqueue", "-j"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            yield json.loads(line)
        said = process.stderr.read().strip()
    if process.returncode:
        raise CommandExecutionError(
            f"the queue cannot be read: {said}. Does Postfix run? `salt-ssh relay chatmail_relay.status` tells."
        )


def summary(messages):
    """
    Sum up what waits, by destination.

    messages
        Mappings as ``postqueue -j`` prints them; no more than a few numbers for each destination are kept of them.

    Returns a list of mappings, the destination with the most messages first: ``destination``, ``messages``,
    ``deferred`` (those that were tried before), ``since`` (Unix seconds, of the oldest), ``reason``, the most frequent.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_queue.summary '[]'
    """
    found = {}
    for message in messages:
        reasons = {}
        for recipient in message["recipients"]:
            reasons.setdefault(destination_of(recipient["address"]), recipient.get("delay_reason", ""))
        for destination, reason in reasons.items():
            line = found.setdefault(
                destination, {"messages": 0, "deferred": 0, "since": message["arrival_time"], "reasons": Counter()}
            )
            line["messages"] += 1
            line["deferred"] += message["queue_name"] == "deferred"
            line["since"] = min(line["since"], message["arrival_time"])
            if reason and (reason in line["reasons"] or len(line["reasons"]) < REASONS_MAX):
                line["reasons"][reason[:REASON_MAX]] += 1
    lines = [
        {
            "destination": destination,
            "messages": line["messages"],
            "deferred": line["deferred"],
            "since": line["since"],
            "reason": line["reasons"].most_common(1)[0][0] if line["reasons"] else "",
        }
        for destination, line in found.items()
    ]
    return sorted(lines, key=lambda line: (-line["messages"], line["destination"]))


def list_(limit=50):
    """
    Return what waits, by destination: a list as of :func:`summary`, of ``limit`` destinations at most, with the ``way``
    by which mail goes to each now, and in ``reason`` also why it does not go by HTTPS.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_queue.list
    """
    lines = summary(_messages())[: int(limit)]
    named = [line["destination"] for line in lines if chatmail_reach.DESTINATION.fullmatch(line["destination"])]
    try:
        ways = __salt__["chatmail_relay.ways"](named)
    except CommandExecutionError:
        # A host with an older version of the services, which an upgrade asks for its status before it begins.
        ways = {}
    for line in lines:
        known, reason = ways.get(line["destination"]), line.pop("reason")
        # The last column is the one that is wrapped.
        line.update(way=chatmail_reach.way_text(known), reason=chatmail_reach.reason_text(reason, known))
    return lines


def _waiting(destination):
    """
    The queue ids of messages that wait for ``destination`` alone, and of those that wait for others, too.

    Raises ``CommandExecutionError`` where nothing waits for it.
    """
    alone, shared = [], []
    for message in _messages():
        destinations = {destination_of(recipient["address"]) for recipient in message["recipients"]}
        if destination in destinations:
            (alone if len(destinations) == 1 else shared).append(message["queue_id"])
    if not alone and not shared:
        raise CommandExecutionError(
            f"nothing waits for {destination}; `salt-ssh relay chatmail_queue.list` shows what waits"
        )
    return alone, shared


def _run(argv, text_in=None):
    done = subprocess.run(argv, input=text_in, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    if done.returncode:
        raise CommandExecutionError(f"`{' '.join(argv)}` failed: {done.stderr.strip()[-REASON_MAX:]}")


def retry(destination):
    """
    Have Postfix try now to deliver all that waits for ``destination``, such as ``example.org``.

    Returns a mapping: ``tried``, the number of messages. Raises ``CommandExecutionError`` where nothing waits for it.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_queue.retry example.org
    """
    alone, shared = _waiting(chatmail_reach.destination(destination))
    for queue_id in alone + shared:
        _run(["postqueue", "-i", queue_id])
    return {"tried": len(alone) + len(shared)}


def drop(destination):
    """
    Delete all that waits for ``destination``, such as ``example.org``; nobody is told. A message that waits for other
    destinations, too, is kept.

    Returns a mapping: ``dropped`` and ``kept``, numbers of messages. Raises ``CommandExecutionError`` where nothing
    waits for it.

    CLI Example:

    .. code-block:: bash

        salt-ssh relay chatmail_queue.drop example.org
    """
    alone, shared = _waiting(chatmail_reach.destination(destination))
    if alone:
        # A message that has just been delivered is gone; main.cf's long queue ids are never given to another one.
        _run(["postsuper", "-d", "-"], "".join(f"{queue_id}\n" for queue_id in alone))
    return {"dropped": len(alone), "kept": len(shared)}
