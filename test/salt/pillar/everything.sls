# Every setting away from its default, in the less usual one of the forms that it may have.
chatmail:
  mail_domain: Chat.Example.ORG
  rename_from: Old.Example.ORG
  takeover: 'TRUE'
  disable_mail: true
  max_user_send_per_minute: 600
  max_user_send_burst_size: 100
  max_mailbox_size: ' 2gb '
  max_message_size: 1048576
  delete_mails_after: 10
  delete_large_after: 3
  delete_inactive_users_after: 30
  username_min_length: 8
  username_max_length: 12
  password_min_length: 12
  max_load_1m: 0.5
  min_available_memory: 64
  min_free_disk_space: 100MB
  max_imap_connections: 50000
  max_smtp_connections: 5000
  passthrough_senders: root@chat.example.org news@chat.example.org
  passthrough_recipients: ['@example.com', 'help@[192.0.2.7]']
  tls_external_cert_and_key: [/etc/ssl/own/fullchain.pem, /etc/ssl/own/privkey.pem]
  acme_email: admin+acme@example.org
  disable_ipv6: true
  public_addresses: 192.0.2.7 2001:db8::7
  dns_update_server: 2001:db8::53
  dns_update_key_file: /etc/chatmail/tsig.key
  www_folder: disabled
  privacy_postal: |
    Verein "Chat: für alle" e.V. {{ '{{ 1 }}' }}
    Straße 1 🏠
  privacy_mail: privacy@example.org
  operator_address: operator1@chat.example.org
  contact: https://i.delta.chat/#0123ABCD&a=operator%40chat.example.org
  privacy_pdo: Ł. O'Neil <pdo@example.org>
  privacy_supervisor: '# not a comment: %n $x'
  iroh_relay: https://iroh.example.org:8443/relay
  echobot: true
  echobot_source: https://mirror.example.org/deltachat-rpc-server
  echobot_sha256: 0c4945c3179499f5b69579d224e3da2f1f4bfa5ce927db4253fba844bec4ad1a
  mtail_address: 127.0.0.4
  turn_socket_path: /run/turn/other.socket
  imap_rawlog: true
  imap_compress: 'true'
  tmpfs_index: true
  mailboxes_dir: /srv/mail
  passdb_path: /srv/passdb.sqlite
  filtermail_host: 127.0.0.2
  filtermail_smtp_port: 20080
  filtermail_smtp_port_incoming: 20081
  filtermail_http_port_incoming: 20082
  postfix_host: 127.0.0.3
  postfix_reinject_port: 20025
  postfix_reinject_port_incoming: 20026
