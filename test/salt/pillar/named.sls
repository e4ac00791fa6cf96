# A relay with a public name: its certificate comes from an authority.
chatmail:
  mail_domain: chat.example.org
