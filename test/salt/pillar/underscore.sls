# A relay with a self-signed certificate, as in the lab.
chatmail:
  mail_domain: _one.test
