-- Managed by chatmail-formula; changes made here are undone by the next apply.
-- Before verification, opendkim-lua(3): only a signature whose d= is the domain of From counts. That is strict
-- alignment (RFC 7489 section 3.1.1) without asking for anybody's policy. The others cost no DNS query.

if odkim.get_mtasymbol(ctx, "{daemon_name}") == "ORIGINATING" then
    return nil
end

local from_domain = odkim.get_fromdomain(ctx)
local count = odkim.get_sigcount(ctx)
if from_domain == nil or count == nil then
    return nil
end

for n = 0, count - 1 do
    local signature = odkim.get_sighandle(ctx, n)
    -- tostring: where opendkim only checks this script the domain is no string, and an error would crash it.
    if string.lower(tostring(odkim.sig_getdomain(signature))) ~= string.lower(from_domain) then
        odkim.sig_ignore(signature)
    end
end

return nil
