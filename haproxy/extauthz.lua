-- Asks extauthz whether a request may pass; README.md beside this file says how it is used. HAProxy 2.6 or newer.
--
--   http-request lua.extauthz           asks a server of the backend `extauthz`. Allowed: sets the variable
--                                       txn.extauthz to `allow`, and the identity headers. Denied: answers the client.
--                                       Else (no answer in time, an answer of another shape, an error here): nothing,
--                                       so what follows must refuse requests without the variable.
--   http-response lua.extauthz_limits   adds to the upstream's answer what is left of the client's limits.
--
-- Sockets and not core.httpclient, because that one sends a request again, and a check that is sent twice is charged twice.

local CONNECT_SECONDS, ANSWER_SECONDS = 0.1, 0.2 -- the latter is more than EXTAUTHZ_DEADLINE_MS
local BODY_BYTES_MAX = 65536
local TO_EXTAUTHZ = { "authorization", "x-request-id", "x-forwarded-for", "x-forwarded-host", "traceparent", "tracestate" }
local TO_UPSTREAM = { "x-organization-id", "x-api-key-id", "x-subject", "x-permissions", "x-plan" }
local TO_CLIENT = {
    "ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset",
    "x-extauthz-decision", "x-extauthz-degraded",
}
-- For the log, as variables txn.<name>; the client does not see the first two.
local TO_LOG = {
    ["x-extauthz-organization"] = "extauthz_organization", ["x-extauthz-key"] = "extauthz_key",
    ["x-extauthz-decision"] = "extauthz_decision", ["x-extauthz-code"] = "extauthz_code",
}
local NOT_TO_CLIENT = {
    connection = true, ["keep-alive"] = true, ["transfer-encoding"] = true,
    ["x-extauthz-organization"] = true, ["x-extauthz-key"] = true,
}
local turn = 0

-- The question, or nil where a value could end its line.
local function question(txn)
    local lines = {
        "GET / HTTP/1.1",
        "host: extauthz",
        "connection: close",
        "x-forwarded-method: " .. txn.sf:method(),
        "x-forwarded-uri: " .. txn.sf:pathq(),
    }
    local received = txn.http:req_get_headers()
    for _, name in ipairs(TO_EXTAUTHZ) do
        for i = 0, received[name] and #received[name] or -1 do
            lines[#lines + 1] = name .. ": " .. received[name][i]
        end
    end
    local text = table.concat(lines, "\n")
    if text:find("[\r%z]") or select(2, text:gsub("\n", "")) ~= #lines - 1 then return nil end
    return text:gsub("\n", "\r\n") .. "\r\n\r\n"
end

-- Addresses to ask, in turn: servers that are up, or all of them where none is.
local function addresses(txn)
    local up, all = {}, {}
    for name, server in pairs(core.backends.extauthz.servers) do
        all[#all + 1] = server:get_addr()
        if txn.f:srv_is_up("extauthz/" .. name) == 1 then up[#up + 1] = server:get_addr() end
    end
    local chosen, ordered = #up > 0 and up or all, {}
    turn = turn + 1
    for i = 1, #chosen do ordered[i] = chosen[(turn + i) % #chosen + 1] end
    return ordered
end

-- A connection to the first address that accepts one; nothing was sent to those that did not.
local function connected(ordered)
    for _, address in ipairs(ordered) do
        local host, port = address:match("^(.*):(%d+)$")
        local socket = core.tcp()
        socket:settimeout(CONNECT_SECONDS)
        if socket:connect(host, tonumber(port)) then return socket end
        socket:close()
    end
end

local function microseconds()
    local now = core.now()
    return now.sec * 1000000 + now.usec
end

-- The answer's status, headers (in order; by name, the first of it) and body; nil where it is late or malformed.
local function answer(socket, asked)
    local deadline = microseconds() + ANSWER_SECONDS * 1000000
    local function receive(what)
        local left = (deadline - microseconds()) / 1000000
        if left <= 0 then return nil end
        socket:settimeout(left)
        return socket:receive(what)
    end
    socket:settimeout(ANSWER_SECONDS)
    if socket:send(asked) ~= #asked then return nil end
    local status = (receive("*l") or ""):match("^HTTP/1%.1 (%d%d%d) ")
    local headers, line = {}, receive("*l")
    while status and line and line:gsub("\r$", "") ~= "" do
        local name, value = line:match("^([%w-]+):[ \t]*(.-)[ \t\r]*$")
        if not name or value:find("[%z\1-\8\10-\31\127]") then return nil end
        name = name:lower()
        headers[#headers + 1] = { name, value }
        headers[name] = headers[name] or value
        line = receive("*l")
    end
    local length = line and tonumber(headers["content-length"])
    if not status or not length or length > BODY_BYTES_MAX then return nil end
    local body = length == 0 and "" or receive(length)
    if not body or #body ~= length then return nil end
    return tonumber(status), headers, body
end

local function allow(txn, headers)
    for _, name in ipairs(TO_UPSTREAM) do
        local value = headers[name] or ""
        if value ~= "" then txn.http:req_set_header(name, value) else txn.http:req_del_header(name) end
    end
    txn:set_priv(headers)
    txn:set_var("txn.extauthz", "allow")
end

local function deny(txn, status, headers, body)
    local reply = txn:reply({ status = status, body = body })
    for _, header in ipairs(headers) do
        if not NOT_TO_CLIENT[header[1]] then reply:add_header(header[1], header[2]) end
    end
    txn:done(reply)
end

core.register_action("extauthz", { "http-req" }, function(txn)
    local asked = question(txn)
    if not asked then txn:done(txn:reply({ status = 400 })) end
    local socket = connected(addresses(txn))
    if not socket then return end
    local status, headers, body = answer(socket, asked)
    socket:close()
    for name, variable in pairs(TO_LOG) do
        if status and headers[name] then txn:set_var("txn." .. variable, headers[name]) end
    end
    if status == 200 then
        allow(txn, headers)
    elseif status and status >= 400 then
        deny(txn, status, headers, body)
    end
end)

core.register_action("extauthz_limits", { "http-res" }, function(txn)
    local headers = txn:get_priv() or {}
    for _, name in ipairs(TO_CLIENT) do
        if headers[name] then txn.http:res_add_header(name, headers[name]) end
    end
end)
