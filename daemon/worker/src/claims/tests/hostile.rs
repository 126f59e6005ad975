//! Payloads that are made to be read in two ways, or to hurt the reader.

use std::fmt::Write as _;

use super::{assert_refused, assert_signed, claims, nested, profile, with, with_text};
use crate::claims::{Profile, Rule};

const MALFORMED: &str = "PAYLOAD_MALFORMED";

#[track_caller]
fn malformed(payload: impl AsRef<[u8]>, claim: &str, rule: Rule) {
    assert_refused(&profile(), payload.as_ref(), (MALFORMED, claim, rule.as_str()));
}

#[track_caller]
fn signed(payload: impl AsRef<[u8]>) {
    assert_signed(&profile(), payload.as_ref());
}

#[test]
fn claims_not_json_are_refused() {
    let good = claims().to_string();
    for payload in ["", " ", "claims", "{", "{\"iat\":", "{'iat':1}", "{iat:1}", "{1:1}", "{,}"] {
        malformed(payload, if payload.contains("\"iat\"") { "iat" } else { "" }, Rule::Json);
    }
    malformed(&good[..good.len() - 1], "", Rule::Json);
    malformed(format!("\u{feff}{good}"), "", Rule::Json);
    for member in [
        r#""x":01"#,
        r#""x":+1"#,
        r#""x":.5"#,
        r#""x":5."#,
        r#""x":0x1"#,
        r#""x":NaN"#,
        r#""x":Infinity"#,
        r#""x":-"#,
        r#""x":1e"#,
        r#""x":nul"#,
        r#""x":True"#,
        r#""x":[1,]"#,
        r#""x":{"a":1,}"#,
        r#""x":"a"b"#,
        r#""x" 1"#,
        r#""x":1,"#,
        r#""x":"\x41""#,
        r#""x":"\u00g0""#,
        "\"x\":\"\n\"",
        "\"x\":\"\0\"",
        "\"x\":\u{a0}1",
        "\"x\":1/*c*/",
        "\"\n\":1",
    ] {
        malformed(with_text(member), "", Rule::Json);
    }
}

#[test]
fn claims_that_are_no_object_are_refused() {
    for payload in ["[]", "[{}]", "1", "-1", "1.5", "true", "null", "\"{}\""] {
        malformed(payload, "", Rule::PayloadObject);
    }
}

#[test]
fn claims_not_utf8_are_refused() {
    let good = with_text(r#""x":"ab""#);
    let (before, after) = good.as_bytes().split_at(good.find("ab").expect("the value"));
    // Stray continuation, overlong slash, encoded surrogate, beyond U+10FFFF, UTF-16.
    for bad in [&b"\x80"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xff\xfe{\0}\0"]
    {
        malformed([before, bad, after].concat(), "", Rule::Utf8);
    }
    signed(good.replace("ab", "ä\u{10ffff}"));
}

#[test]
fn claims_followed_by_anything_but_white_space_are_refused() {
    let good = claims().to_string();
    for more in ["{}", "x", ",", "\0", "]", "}", " 1", "//", "\u{feff}"] {
        malformed(format!("{good}{more}"), "", Rule::TrailingBytes);
    }
    signed(format!(" \t\r\n{good} \t\r\n"));
}

#[test]
fn claims_with_a_name_twice_are_refused_at_any_depth() {
    for (member, claim) in [
        (r#""sub":"a""#, "sub"),
        (r#""s\u0075b":"a""#, "sub"),
        (r#""\u0061ud":"a""#, "aud"),
        (r#""exp":1"#, "exp"),
        (r#""x":1,"x":1"#, ""),
        (r#""x":1,"\u0078":1"#, ""),
        (r#""x\/":1,"x/":1"#, ""),
        (r#""":1,"":1"#, ""),
        (r#""😀":1,"\ud83d\ude00":1"#, ""),
        (r#""\u000A":1,"\n":1"#, ""),
        (r#""x":{"a":1,"a":1}"#, ""),
        (r#""tctx":{"a":1,"b":2,"\u0061":1}"#, "tctx"),
        (r#""tctx":{"a":[[{"b":{},"b":{}}]]}"#, "tctx"),
        (r#""tctx":{"a":{"a":1},"a":1}"#, "tctx"),
        (r#""act":{"sub":"a","act":{"sub":"b"},"act":{"sub":"c"}}"#, "act"),
        (r#""act_chain":[{"sub":"a"},{"sub":"b","sub":"b"}]"#, "act_chain"),
    ] {
        malformed(with_text(member), claim, Rule::DuplicateName);
    }
    // The same name in different objects, and names that differ only to a person, are no duplicates.
    signed(with_text(r#""x":{"x":{"x":1},"y":1},"y":[{"x":1},{"x":1}],"X":1,"tctx":{"sub":1}"#));
    signed(with_text(r#""ä":1,"a\u0308":1"#));
}

#[test]
fn claims_with_thousands_of_names_have_their_twins_found() {
    let large = Profile { max_claims_bytes: 1 << 20, ..profile() };
    let mut members = String::new();
    for n in 0..20_000 {
        write!(members, "\"n{n}\":{{}},").expect("writing to a string");
    }
    let unique = with_text(&format!("{members}\"last\":1"));
    assert_signed(&large, unique.as_bytes());
    for (last, claim) in [("\"n0\":1", ""), ("\"n19999\":1", ""), ("\"sub\":1", "sub")] {
        let twin = with_text(&format!("{members}{last}"));
        assert_refused(&large, twin.as_bytes(), (MALFORMED, claim, "duplicate_name"));
    }
    let inner = with_text(&format!("\"tctx\":{{{members}\"n7\":1}}"));
    assert_refused(&large, inner.as_bytes(), (MALFORMED, "tctx", "duplicate_name"));
}

#[test]
fn claims_with_lone_surrogates_are_refused_in_names_and_values() {
    for bad in [
        r"\ud800",
        r"\udbff",
        r"\udc00",
        r"\udfff",
        r"\ud800\ud800",
        r"\udc00\ud800",
        r"\ud800\n",
        r"\ud800\u0041",
        r"a\udead",
        r"\uD83Dx",
        r"\uD83D\",
    ] {
        malformed(with_text(&format!(r#""x":"{bad}""#)), "", Rule::Json);
        malformed(with_text(&format!(r#""{bad}":1"#)), "", Rule::Json);
        malformed(with_text(&format!(r#""tctx":{{"a":["{bad}"]}}"#)), "tctx", Rule::Json);
        malformed(with_text(&format!(r#""tctx":{{"{bad}":1}}"#)), "tctx", Rule::Json);
    }
    signed(with_text(r#""x":"\ud83d\ude00","\ud83d\ude01":"\u0000""#));
}

#[test]
fn claims_with_numbers_beyond_a_double_are_refused() {
    let digits = |n: usize| "9".repeat(n);
    let huge = [
        "1e999",
        "-1e999",
        "1E+999",
        "1e309",
        "1.8e308",
        "-1.8e308",
        "1e99999999999999999999",
        "1.797693134862315808e308",
        // Found finite where rounding is not exact (serde_json without `float_roundtrip`) …
        "179769313486231582e291",
        &digits(309),
        &format!("-{}", digits(400)),
        &format!("{}.5e1", digits(308)),
        &format!("0.{}e400", digits(20)),
    ];
    for number in huge {
        malformed(with_text(&format!("\"x\":{number}")), "", Rule::NumberRange);
        malformed(with_text(&format!("\"tctx\":{{\"a\":[{number}]}}")), "tctx", Rule::NumberRange);
        malformed(format!("{{\"exp\":{number}}}"), "exp", Rule::NumberRange);
    }
    for number in [
        // … and this one infinite.
        "1797693134862315.745812e293",
        "1.7976931348623157e308",
        "-1.7976931348623157e308",
        "1e308",
        "5e-324",
        "1e-999",
        "-0",
        "0e999",
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775809",
        &digits(308),
    ] {
        signed(with_text(&format!("\"x\":{number},\"tctx\":{{\"a\":[{number}]}}")));
    }
}

#[test]
fn i9_claims_nest_to_32_levels_and_no_further() {
    for (open, close) in [("{\"a\":", "}"), ("[", "]"), ("[{\"a\":", "}]")] {
        let each = open.matches(['{', '[']).count();
        // The payload's own object is the first level.
        let most = nested(open, close, (Profile::MAX_DEPTH - 1) / each);
        signed(with_text(&format!("\"x\":{most}")));
        let most = if each == 2 { format!("[{most}]") } else { most };
        signed(with_text(&format!("\"x\":{most}")));
        malformed(with_text(&format!("\"x\":[{most}]")), "", Rule::Depth);
        malformed(with_text(&format!("\"x\":{{\"a\":{most}}}")), "", Rule::Depth);
        malformed(with_text(&format!("\"tctx\":{{\"a\":{most}}}")), "tctx", Rule::Depth);
    }
    // However deep, and whether it ends or not.
    let large = Profile { max_claims_bytes: 1 << 20, ..profile() };
    for open in ["[", "{\"a\":"] {
        let endless = format!("{{\"x\":{}", open.repeat(100_000));
        assert_refused(&large, endless.as_bytes(), (MALFORMED, "", "depth"));
    }
}

#[test]
fn i9_claims_of_4096_bytes_pass_and_of_4097_do_not() {
    let fill = Profile::DEFAULT_MAX_CLAIMS_BYTES - with("x", "".into()).to_string().len();
    signed(with("x", "x".repeat(fill).into()).to_string());
    malformed(with("x", "x".repeat(fill + 1).into()).to_string(), "", Rule::Size);
    // The size comes first: not a byte of such a payload is read.
    malformed(vec![0xff; 4097], "", Rule::Size);
    malformed(claims().to_string() + &" ".repeat(4096), "", Rule::Size);
}

#[test]
fn claims_malformed_are_named_as_such_before_any_rule_on_claims() {
    malformed(r#"{"iss":"foreign","exp":"x","x":1,"x":1}"#, "", Rule::DuplicateName);
    malformed(r#"{"iss":"foreign"} x"#, "", Rule::TrailingBytes);
    malformed("{} {}", "", Rule::TrailingBytes);
}

#[test]
fn claims_refusals_say_where_and_echo_nothing_of_the_payload() {
    let twice = "the payload has an object with the same name twice";
    for (payload, sentence, line) in [
        ("{\"x\":\n\"secret\",\"x\":1}", twice.to_owned(), 2),
        ("{\"tctx\":{\"secret\":1,\"secret\":1}}", format!("{twice}, in claim `tctx`"), 1),
        ("{\"secret\":tru}", "the payload is not strict JSON".to_owned(), 1),
        ("\n\n\"secret\"", "the payload is not a JSON object".to_owned(), 3),
        ("{} secret", "the payload goes on after the end of its JSON object".to_owned(), 1),
        ("{\"secret\":1e999}", "the payload has a number that no double can hold".to_owned(), 1),
    ] {
        let refusal = profile().check(payload.as_bytes(), super::NOW).expect_err("malformed");
        let position = refusal.position().expect("a position");
        assert_eq!(position.line, line);
        let column = position.column;
        assert_eq!(refusal.to_string(), format!("{sentence} (line {line}, column {column})"));
    }
    let refusal = profile().check(&[b' '; 5000], super::NOW).expect_err("too large");
    assert_eq!(
        refusal.to_string(),
        "the payload is larger than the issuer's max_claims_bytes (at most 4096 bytes)"
    );
    assert_eq!(refusal.limit(), Some(4096));
}
