"""The corpus of hostile literals (A21), each as the text of a JSON value; some are no JSON at all."""

import json

TEXTS = [
    "", " ", "\t", "\n", "\r\n", "a\r\nSet-Cookie: x=1", "\0", "a\0b", "\ud800", "\udfff", "a\ud83d", "\x1b[31mred",
    "\x07", "\x7f", "\u0085", "\u2028", "\u2029", "\u202eevil", "\u2066x\u2069", "\ufeff", "\ufffe", "\uffff",
    "\u200b", "\u0301" * 50, "e\u0301", "\u00e9", "\u0130", "\u1e9e", "ß", "ǅ", "İstanbul", "\U0001f600", "\U0010ffff",
    "٣", "²", "½", "Ⅷ", "１２", "+ADw-script+AD4-", "<img src=x onerror=alert(1)>", "<script>alert(1)</script>",
    "</script><svg/onload=1>", "javascript:alert(1)", "![x](javascript:alert(1))", "data:text/html,x", "{{7*7}}",
    "{% debug %}", "${7*7}", "${inputs.x}", "${secrets.key}", "${", "$${", "${__class__.__mro__}", "#{1}", "%s%s%s%n",
    "%00", "%2e%2e%2f", "%", "%zz", "%c0%af", "../../etc/passwd", "..\\..\\x", "/", "//", "/etc/passwd", "file:///etc",
    ".", "..", "~", "-", "--", "-1", "0", "00", "1", "01", "1.5", "1e3", "1e400", "-0", "0x10", "1_000", "NaN",
    "Infinity", "-Infinity", "null", "None", "undefined", "true", "false", "[]", "{}", "' OR 1=1 --", "\" OR \"\"=\"",
    "'; DROP TABLE x; --", "1;SELECT pg_sleep(9)", "%' ESCAPE '", "_", "*", "a*", "(a+)+$", "(" * 500, "[" * 500, "\\",
    "\\x00", "\\u0000", "`id`", "$(id)", "; id", "| id", "&& id", "admin", "ADMIN", "admin ", "Admin\u200b", "validate",
    "update", "ws", "ticket", "me", "id", "__proto__", "constructor", "__init__", "pk", "id__gt", "owner__password",
    "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "0" * 32, "{" + "0" * 32 + "}",
    "urn:uuid:00000000-0000-0000-0000-000000000000", "00000000-0000-7000-8000-00000000000g", "2026-01-01",
    "2026-01-01T00:00:00Z", "2026-13-45T99:99:99Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59+14:00",
    "0001-01-01T00:00:00-23:59", "2026-01-01T00:00:00+99:99", "2026-02-30", "1e10", "P1D", "@daily", "* * * * *",
    "99 * * * *", "*/0 * * * *", "0-99999999 * * * *", "@reboot", "Europe/Berlin", "../UTC", "posix/UTC", "UTC\0",
    "http://127.0.0.1:1/", "http://[::1]/", "http://[", "https://user:pw@x/", "http://x:99999/", "gopher://x",
    "a@b", "a@b@c", "a\n@b.c", "x" * 101, "x" * 201, "x" * 1_001, "x" * 65_537, "é" * 5_000, "a," * 3_000, "a " * 3_000,
    "9" * 20, "9" * 309, "9" * 4_301, "-" + "9" * 4_301, "0." + "0" * 400 + "1", "1e-400", "١" * 20,
]  # fmt: skip

RAW = [
    "NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e-400", "9" * 4_301, "-" + "9" * 4_301, "0", "-0", "-0.0",
    "1", "-1", "1.5", "0.1", "127", "128", "255", "256", "32767", "32768", "65536", "2147483647", "2147483648",
    "-2147483649", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "1e18", "1e19",
    "18446744073709551616", "null", "true", "false", "[]", "{}", "[[]]", "[null]", "[{}]", "{\"\":0}", "{\"a\":null}",
    "{\"a\":1,\"a\":2}", "{\"\\u0000\":1}", "{\"\\ud800\":1}", "{\"__proto__\":{\"x\":1}}", "{\"$ref\":\"#/\"}",
    "[" * 63 + "]" * 63, "[" * 65 + "]" * 65, "[" * 5_000 + "]" * 5_000, "{\"a\":" * 100 + "1" + "}" * 100,
    "[" + ",".join(["0"] * 5_000) + "]", "[" + ",".join(['"a"'] * 5_000) + "]",
    "{" + ",".join(f'"k{i}":0' for i in range(3_000)) + "}", "\"\\", "\"\\x\"", "\"\\u12\"", "'single'", "undefined",
    "01", "+1", ".5", "1.", "0x1", "1_0", "[1,]", "{\"a\":1,}", "{a:1}", "/* c */ 1", "\"unclosed", "{", "[", "",
]  # fmt: skip

LITERALS = [*(json.dumps(text) for text in TEXTS), *RAW]
"""Texts as JSON strings, then everything else. More than 200."""

BODIES = [
    b"", b" ", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00", b"\x00", b"{}\x00", b"\xc3\x28", b"\xed\xa0\x80",
    b"+AHs-+AH0-",     b"null", b"[]", b"\"x\"", b"1", b"true", b"{}{}", b"[" * 100_000, b"{\"a\":" * 50_000,
    b"9" * 5_000, b"a=b&c=d",
    b"- a: &x [*x]\n", b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", b"!!python/object/apply:os.system [id]",
    b"%YAML 9.9\n---",
    b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><x>&a;</x>", b"\x80\x04N.",
    b"name: \"\\0\"",
]  # fmt: skip
"""Whole bodies, as bytes."""

MEDIA_TYPES = [
    "application/json", "application/json; charset=utf-16", "application/json; charset=nonsense", "application/yaml",
    "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=x", "text/plain", "",
    "a", "application/", "application/json\\", "text/html; charset=\"", "application/x-yaml", "image/png",
]  # fmt: skip
