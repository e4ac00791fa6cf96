# A chatmail relay, in the order in which its parts need each other.
include:
  # Settings are valid and the host is fit: nothing is touched before that.
  - chatmail.preflight
  # Users, the mailboxes directory, a journal that keeps nothing.
  - chatmail.system
  # A resolver of the relay's own: everything after it resolves names through it.
  - chatmail.unbound
  # Certificate and key: Dovecot and Postfix refuse to start without.
  - chatmail.tls
  # Signs what leaves, verifies what arrives.
  - chatmail.opendkim
  # Our services; Dovecot asks doveauth, Postfix hands mail to the filters.
  - chatmail.chatmaild
  # Old mail goes by the clock, unused mailboxes too.
  - chatmail.jobs
  # Before Postfix: it makes the SASL and LMTP sockets in Postfix's spool.
  - chatmail.dovecot
  # Last: with it the relay begins to accept mail.
  - chatmail.postfix
