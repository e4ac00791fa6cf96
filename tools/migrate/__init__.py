"""
Move a relay to a new host: ``python -m tools.migrate OLD NEW``, two names of the roster that share the relay's pillar.

One sequence of steps. Each may be repeated, so what was interrupted, wherever, is run again and goes on. What is done
is noted on the hosts themselves: ``/etc/chatmail/moved`` on the old one from the moment at which it closes, and
``/etc/chatmail/migration`` on the new one, which says whose mail it takes, and when it has it all. From then on nothing
is copied any more: the new host may have mail of its own.

The new host fetches the data from the old one, without a detour by the controller, with an ssh key that is made for
this, may read and nothing else, and lasts ten minutes.
"""
