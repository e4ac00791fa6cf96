"""
Make a bare host the relay that a backup is of:
``python -m tools.restore RELAY --from REPOSITORY --password-file FILE``.

All that was saved is read and verified beside its place first, and put into it before Dovecot and Postfix are there:
nobody can create an address that the relay had. ``/etc/chatmail/restoring`` on the host says that this is not complete;
no apply goes on while it is there, and a further run begins from the start.
"""
