# The operator brings the certificate, also for a name that would get a self-signed one.
chatmail:
  mail_domain: _test.example.org
  tls_external_cert_and_key: /etc/ssl/own/fullchain.pem /etc/ssl/own/privkey.pem
