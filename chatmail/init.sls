# A chatmail relay, in the order in which its parts need each other.
include:
  # Settings are valid and the host is fit: nothing is touched before that.
  - chatmail.preflight
  # Users, the mailboxes directory, a journal that keeps nothing.
  - chatmail.system
  # A resolver of the relay's own: everything after it resolves names through it.
  - chatmail.unbound
  # Addresses and aliases, before a certificate authority looks for them; all records at the end of the apply.
  - chatmail.dns
  # Certificate and key: Dovecot and Postfix refuse to start without.
  - chatmail.tls
  # What other domains want of TLS; Postfix asks.
  - chatmail.mta_sts
  # Our services; Dovecot asks doveauth, Postfix hands mail to the filters, which verify what arrives.
  - chatmail.chatmaild
  # Signs what leaves.
  - chatmail.opendkim
  # Old mail goes by the clock, unused mailboxes too.
  - chatmail.jobs
  # What must not be lost is saved elsewhere, where the pillar says where.
  - chatmail.backup
  # Calls behind address translation; nothing else needs it.
  - chatmail.turn
  # Before Postfix: it makes the SASL and LMTP sockets in Postfix's spool.
  - chatmail.dovecot
  # The web pages and their server, which also leads clients that come by port 443 to Dovecot and Postfix.
  - chatmail.website
  - chatmail.nginx
  # With it the relay begins to accept mail.
  - chatmail.postfix
  # Counts what the daemons log, where somebody asks for metrics.
  - chatmail.monitoring
  # Debian's security updates, from now on.
  - chatmail.updates
  # Last, as the components that are not Debian's: where a download fails, all else is there. The bots are clients of it.
  - chatmail.iroh_relay
  - chatmail.echobot
  - chatmail.operator_bot
  # Looks at what is there by then.
  - chatmail.outside
  # Where its page is, and how to go on.
  - chatmail.ready
