-- Managed by chatmail-formula; changes made here are undone by the next apply.
--
-- Runs within each delivery: tells chatmail-metadata, by setting an entry of IMAP METADATA, that devices have to be woken.
-- https://doc.dovecot.org/2.3/configuration_manual/push_notification/

function dovecot_lua_notify_begin_txn(user)
  return user
end

function dovecot_lua_notify_event_message_new(user, event)
  -- What a user's device sent to its own address is no news to the user.
  if event.from_address and event.from_address:lower() == user.username:lower() then
    return
  end
  local mailbox = user:mailbox(event.mailbox)
  -- Not sync(): that takes the lock for which the reader's session waits.
  mailbox:open()
  mailbox:metadata_set("/private/messagenew", "")
  mailbox:free()
end

function dovecot_lua_notify_end_txn(user)
end
