-- Managed by chatmail-formula; changes made here are undone by the next apply.
--
-- Which addresses there are, and whether a password is right: asks doveauth, which creates an address at its first login.
-- Not by Dovecot's own driver for dictionaries: whenever that gets no answer, it logs what it has asked, and the password
-- is in that; and Dovecot 2.4 has none for passwords and addresses any more. The protocol is the same:
-- https://doc.dovecot.org/2.3/developer_manual/design/dict_protocol/

local unix = require("socket.unix")

local SOCKET = "/run/doveauth/doveauth.socket"
local HELLO = "H3\t2\t0\t\tauth\n"
local ANSWER_S = 20
local ITERATE_NO_VALUE = 8

-- What would end a parameter of the dict protocol, or a field of doveauth's key.
local ESCAPES = {["\0"] = "\0010", ["\1"] = "\0011", ["\t"] = "\1t", ["\r"] = "\1r", ["\n"] = "\1n"}

local function field(text)
  return (text:gsub("[\"'\\]", "\\%0"))
end

-- What `read` makes of the answer, or nil and why there is none: "closed", "timeout" or a fault.
local function ask(request, read)
  local connection = unix.stream()
  connection:settimeout(ANSWER_S)
  local done, fault = connection:connect(SOCKET)
  if done then
    done, fault = connection:send(HELLO .. request)
  end
  if done then
    done, fault = read(connection)
  end
  connection:close()
  return done, fault
end

local function read_line(connection)
  return connection:receive("*l")
end

-- The line that answers a lookup, or nil and why there is none.
local function lookup(key)
  local request = "L" .. key:gsub("[\0\1\t\r\n]", ESCAPES) .. "\n"
  local answer, fault = ask(request, read_line)
  if fault == "closed" then
    -- It was ended after it had taken the connection, and before it had seen the question.
    answer, fault = ask(request, read_line)
  end
  return answer, fault
end

function auth_password_verify(request, password)
  local client = request.remote_ip or request.rip or ""
  local answer, fault = lookup(string.format('shared/passdb/%s"%s"%s', field(password), field(request.user), client))
  if answer == "N" then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, ""
  end
  local hash = answer and answer:match('^O.*"password": "([^"\\]+)"')
  if not hash then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "doveauth: " .. (fault or answer)
  end
  if request:password_verify(hash, password) > 0 then
    return dovecot.auth.PASSDB_RESULT_OK, {}
  end
  return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, ""
end

function auth_userdb_lookup(request)
  local answer, fault = lookup("shared/userdb/" .. field(request.user))
  if answer == "N" then
    return dovecot.auth.USERDB_RESULT_USER_UNKNOWN, ""
  end
  local home = answer and answer:match('^O.*"home": "([^"\\]+)"')
  if not home then
    return dovecot.auth.USERDB_RESULT_INTERNAL_FAILURE, "doveauth: " .. (fault or answer)
  end
  return dovecot.auth.USERDB_RESULT_OK, {home = home, uid = "vmail", gid = "vmail"}
end

-- One address a line, up to an empty one.
local function read_addresses(connection)
  local addresses = {}
  local line, fault = read_line(connection)
  while line and line ~= "" do
    table.insert(addresses, line:match("^Oshared/userdb/([^\t]+)"))
    line, fault = read_line(connection)
  end
  return line and addresses, fault
end

-- doveadm -A
function auth_userdb_iterate()
  local addresses, fault = ask(string.format("I%d\t0\tshared/userdb/\t\n", ITERATE_NO_VALUE), read_addresses)
  if not addresses then
    error("doveauth: " .. fault)
  end
  return addresses
end
