"""One hundred messages as people really send them; each must come back exactly as it was sent."""

from __future__ import annotations

MAX_CHARACTERS = 32_000
ECHO = "{{echo}} "

_CODE = [
    'def add(a: int, b: int) -> int:\n    """Adds."""\n    return a + b\n',
    '#include <stdio.h>\nint main(void) {\n\tprintf("%d\\n", 1 << 3);\n\treturn 0;\n}',
    "SELECT * FROM users WHERE name = 'O''Brien'; -- \"quoted\"\nDROP TABLE users;--",
    "const f = (x) => `${x}\\n`; // template ${ literal }",
    '```rust\nfn main() { println!("{:?}", Some(1)); }\n```',
    '{"json": [1, 2.5, null, true, "\\u0041\\n"], "nested": {"a": {}}}',
    "<html><body onload=\"alert('x')\">&amp; &lt;b&gt;</body></html>",
    "for i in {1..3}; do echo \"$i\" | sed 's/[0-9]/\\\\&/g'; done",
    "\tindented\twith\ttabs\n\t\tand deeper",
    "data: not an event\n\nevent: message.delta\nid: 1\ndata: {}\n\n",
    ": a comment\nretry: 5\n\n",
    "a\\b\\\\c\\n is not a newline, \\u0000 is not a null",
    "^(?:[a-z0-9!#$%&'*+/=?^_`{|}~-]+)@(?:\\[[0-9.]+\\])$",
    "{% raw %}{{ jinja }}{% endraw %} {{mustache}} ${shell} %s %(name)s {0}",
    "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n\\ No newline at end of file",
]
_EMOJI = [
    "👍",
    "👩‍👩‍👧‍👦 family",
    "🏳️‍🌈 flag 🇩🇪🇯🇵",
    "👋🏽👋🏿 skin tones",
    "1️⃣ keycap #️⃣",
    "🧑🏻‍🤝‍🧑🏿 people",
    "❤️ vs ❤",
    "🫠🪿🫨 new ones",
    "Great 🎉🎉🎉!!!",
    "😀" * 300,
]
_RIGHT_TO_LEFT = [
    "مرحبا، كيف حالك؟",
    "שלום עולם, מה שלומך?",
    "mixed עברית and English 123 العربية",
    "سلام\u200cعلیکم half space",
    "\u202eoverride\u202c and \u2067isolate\u2069",
    "اُردُو میں سوال",
    "ܫܠܡܐ",
    "العدد ١٢٣٤ والتاريخ ٢٠٢٦",
]
_COMBINING = [
    "e\u0301 is not \u00e9",
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!",
    "n\u0303 ñ",
    "각 각 (jamo \u1100\u1161\u11a8)",
    "a" + "\u0301" * 200,
    "किताब में क्ष त्र ज्ञ",
    "ภาษาไทยไม่มีช่องว่าง",
    "Å Å Å \u212b",
    "ﬁ ligature ﬀ",
    "\u0301 begins with a mark",
]
_LANGUAGES = [
    "你好，世界！这是一个测试。",
    "日本語のテキスト、カタカナ、ひらがな。",
    "한국어 문장입니다.",
    "Příliš žluťoučký kůň",
    "Ελληνικά γράμματα",
    "Съешь ещё этих мягких французских булок",
    "Straße, Äpfel, Öl, ÜBER, ẞ",
    "ÆØÅ æøå",
    "İstanbul'da ılık ıspanak",
    "𝕸𝖆𝖙𝖍 𝒻𝓊𝓃 𠜎𠜱𠝹 (outside the BMP)",
    "ⵜⴰⵎⴰⵣⵉⵖⵜ",
    "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "தமிழ் எழுத்து",
    "ქართული ენა",
    "Հայերեն",
]
_CONTROL = [
    "null \x00 in the middle",
    "\x00",
    "\x00begins and ends\x00",
    "many" + "\x00" * 50 + "nulls",
    "\\u0000 and \x00 and \\x00",
    "bell \x07 escape \x1b[31mred\x1b[0m delete \x7f",
    "all of C0: " + "".join(map(chr, range(32))),
    "C1: " + "".join(map(chr, range(0x80, 0xA0))),
    "no-break\u00a0space and zero\u200bwidth\u2060joiners",
    "\ufeffbyte order mark",
    "noncharacters \ufffe \uffff \U0010ffff",
    "replacement \ufffd",
    "private \ue000 \U000f0000",
]
_LINES = [
    "CRLF\r\nline\r\n",
    "CR only\rline",
    "LF\n\n\nthree",
    "line\u2028separator",
    "paragraph\u2029separator",
    "next\u0085line",
    "vertical\x0btab form\x0cfeed",
    "\u2028begins",
    "ends\u2028",
    "\r\n\r\ndata: x\r\n\r\n",
    "trailing blanks   ",
    "   leading blanks",
    "\n\nleading lines",
    "trailing lines\n\n",
    "a  b   c    d" + " " * 40 + "e",
]
_MARKDOWN = [
    "# Title\n\n- [ ] todo\n- [x] done\n\n| a | b |\n|---|---|\n| 1 | 2 |",
    "**bold** _it_ ~~no~~ `code` [l](https://x.example/?a=1&b=2)",
    "> quote\n>> deeper\n\n1. one\n   1. two",
    "$$\\int_0^1 x^2\\,dx = \\frac{1}{3}$$",
    "***\n---\n___",
    "![img](data:image/png;base64,iVBORw0KGgo=)",
    "Footnote[^1]\n\n[^1]: text",
    "<details><summary>x</summary>y</details>",
]
_LONG = [
    "x" * (MAX_CHARACTERS - len(ECHO)),
    "ä漢😀e\u0301 " * ((MAX_CHARACTERS - len(ECHO)) // 6),
    ("word " * MAX_CHARACTERS)[: MAX_CHARACTERS - len(ECHO) - 1] + ".",
    "\x00" * (MAX_CHARACTERS - len(ECHO)),
    ("line\r\n" * MAX_CHARACTERS)[: MAX_CHARACTERS - len(ECHO)],
    "\u2028" * 1000 + "x",
]

TEXTS = _CODE + _EMOJI + _RIGHT_TO_LEFT + _COMBINING + _LANGUAGES + _CONTROL + _LINES + _MARKDOWN + _LONG
assert len(TEXTS) == 100
