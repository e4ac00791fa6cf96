# A relay without a name: its addresses are user@[1.3.3.7] (RFC 5321 section 4.1.3).
chatmail:
  mail_domain: 1.3.3.7
