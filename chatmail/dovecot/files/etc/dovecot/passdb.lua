-- Managed by chatmail-formula; changes made here are undone by the next apply.
--
-- Whether a password is right: asks doveauth for the hash of an address, which the first login creates, and compares.
-- Not by Dovecot's own driver for dictionaries: whenever that gets no answer, it logs what it has asked, and the password
-- is in that. https://doc.dovecot.org/2.3/configuration_manual/authentication/lua_based_authentication/

local unix = require("socket.unix")

local SOCKET = "/run/doveauth/doveauth.socket"
local ANSWER_S = 20

-- What would end a parameter of the dict protocol, or a field of doveauth's key.
local ESCAPES = {["\0"] = "\0010", ["\1"] = "\0011", ["\t"] = "\1t", ["\r"] = "\1r", ["\n"] = "\1n"}

local function field(text)
  return (text:gsub("[\"'\\]", "\\%0"))
end

-- The line that answers a lookup, or nil and why there is none: "closed", "timeout" or a fault.
local function lookup(key)
  local connection = unix.stream()
  connection:settimeout(ANSWER_S)
  local done, fault = connection:connect(SOCKET)
  if done then
    done, fault = connection:send("H3\t2\t0\t\tauth\nL" .. key:gsub("[\0\1\t\r\n]", ESCAPES) .. "\n")
  end
  if done then
    done, fault = connection:receive("*l")
  end
  connection:close()
  return done, fault
end

function auth_password_verify(request, password)
  local key = string.format('shared/passdb/%s"%s"%s', field(password), field(request.user), request.rip or "")
  local answer, fault = lookup(key)
  if fault == "closed" then
    -- It was ended after it had taken the connection, and before it had seen the question.
    answer, fault = lookup(key)
  end
  if answer == "N" then
    return dovecot.auth.PASSDB_RESULT_USER_UNKNOWN, ""
  end
  local hash = answer and answer:match('^O.*"password": "([^"\\]+)"')
  if not hash then
    return dovecot.auth.PASSDB_RESULT_INTERNAL_FAILURE, "doveauth: " .. (fault or answer)
  end
  if request:password_verify(hash, password) > 0 then
    return dovecot.auth.PASSDB_RESULT_OK, ""
  end
  return dovecot.auth.PASSDB_RESULT_PASSWORD_MISMATCH, ""
end
