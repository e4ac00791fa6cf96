-- Managed by chatmail-formula; changes made here are undone by the next apply.
-- After verification, opendkim-lua(3): what arrives needs one valid signature of the domain of From.

-- dkim.h: DKIM_SIGERROR_OK, DKIM_SIGERROR_KEYFAIL (the DNS query failed), DKIM_SIGBH_MATCH
local SIGNATURE_OK = 0
local KEY_QUERY_FAILED = 24
local BODY_HASH_MATCH = 0

local function refuse(code, extended, text, result)
    odkim.set_reply(ctx, code, extended, text)
    odkim.set_result(ctx, result)
end

if odkim.get_mtasymbol(ctx, "{daemon_name}") == "ORIGINATING" then
    return nil
end

-- A domain literal (RFC 5321 section 4.1.3) has no name to publish a key under, so its mail cannot be signed.
local from_domain = string.lower(odkim.get_fromdomain(ctx) or "")
if string.sub(from_domain, 1, 1) == "[" then
    return nil
end

local count = odkim.get_sigcount(ctx)
if count == nil or count == 0 then
    refuse("554", "5.7.1", "No DKIM signature found", SMFIS_REJECT)
    return nil
end

-- RFC 6376 section 8.2: to a body that is signed in part (l=) anybody can add text. Where any signature has that tag, all
-- must cover as many bytes as have come; without it the lengths say nothing, as relaxed canonicalization drops spaces.
local limited = false
for n = 0, count - 1 do
    local field = odkim.get_header(ctx, "DKIM-Signature", n)
    limited = limited or (type(field) == "string" and string.find(";" .. field, ";%s*l%s*=") ~= nil)
end

local unanswered = false
for n = 0, count - 1 do
    local signature = odkim.get_sighandle(ctx, n)
    -- tostring: where opendkim only checks this script the domain is no string, and an error would crash it.
    if string.lower(tostring(odkim.sig_getdomain(signature))) == from_domain then
        local result = odkim.sig_result(signature)
        local whole = not limited or odkim.sig_canonlength(ctx, signature) == odkim.sig_bodylength(ctx, signature)
        if result == SIGNATURE_OK and odkim.sig_bhresult(signature) == BODY_HASH_MATCH and whole then
            return nil
        end
        unanswered = unanswered or result == KEY_QUERY_FAILED
    end
end

if unanswered then
    -- RFC 6376 section 6.1.2: a key that cannot be had now is a reason to try again.
    refuse("451", "4.7.5", "DKIM key could not be fetched, try again later", SMFIS_TEMPFAIL)
else
    refuse("554", "5.7.1", "No valid DKIM signature found", SMFIS_REJECT)
end
return nil
