# A host without IPv6 connectivity.
chatmail:
  mail_domain: chat.example.org
  disable_ipv6: true
