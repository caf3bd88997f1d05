//! Makes text of other people (models, branches, logs, names) harmless in Markdown: it names nobody, links nothing and
//! breaks no table. Everything foreign goes through here on its way to GitHub.

use std::fmt::Write;

/// Takes out what a reader cannot see or what turns text around, puts spaces for line breaks, and cuts after `most`
/// characters. The result is plain text, for places that are no Markdown.
pub fn clean(text: &str, most: usize) -> String {
    let mut out = String::new();
    let mut count = 0;
    let mut space = true;
    for c in text.chars().filter(|c| !is_hidden(*c)) {
        if c.is_whitespace() || c.is_control() {
            if !space {
                out.push(' ');
                count += 1;
            }
            space = true;
        } else {
            out.push(c);
            count += 1;
            space = false;
        }
        if count > most {
            let cut = out.char_indices().nth(most.saturating_sub(1)).map_or(out.len(), |(at, _)| at);
            out.truncate(cut);
            out.truncate(out.trim_end().len());
            out.push('…');
            return out;
        }
    }
    out.truncate(out.trim_end().len());
    out
}

/// The text as a code span: nothing in it is a mention, a reference, a link or HTML. A bar, which would end a table's
/// cell, becomes a broken one.
pub fn code(text: &str, most: usize) -> String {
    let text = clean(text, most).replace('|', "¦");
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    // A span ends at as many backticks as it begins with (CommonMark 0.31, 6.1).
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// Markdown of our own that may quote others: @-mentions, #-references and hidden characters are defused, the rest
/// stays.
pub fn defuse(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let mut before = ' ';
    let mut chars = markdown.chars().filter(|c| *c == '\n' || !is_hidden(*c)).peekable();
    while let Some(c) = chars.next() {
        out.push(c);
        let next = chars.peek().copied().unwrap_or(' ');
        let mention = c == '@' && !before.is_alphanumeric() && next.is_alphanumeric();
        let reference = c == '#' && next.is_ascii_digit();
        let issue = c == '-' && next.is_ascii_digit() && out.to_ascii_lowercase().ends_with("gh-");
        if mention || reference || issue {
            // A space without width: read as before, and linked to nobody.
            out.push('\u{200b}');
        }
        before = c;
    }
    out
}

/// A preformatted block; no line in it can end it.
pub fn block(language: &str, text: &str) -> String {
    let text: String = text.chars().filter(|c| *c == '\n' || !(is_hidden(*c) || c.is_control())).collect();
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", text.trim_end())
}

/// Characters without a width of their own or that change the direction of what follows: Unicode's format characters
/// that occur in attacks, and tags (<https://www.unicode.org/reports/tr36/>).
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// A value with about four digits: `1234`, `123.4`, `0.01234`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if !size.is_finite() => return value.to_string(),
        _ if size < f64::MIN_POSITIVE => return "0".to_owned(),
        _ if !(0.000_1..1e9).contains(&size) => return format!("{value:.3e}"),
        _ if size >= 1000.0 => 0,
        _ if size >= 100.0 => 1,
        _ if size >= 10.0 => 2,
        _ if size >= 1.0 => 3,
        _ if size >= 0.1 => 4,
        _ if size >= 0.01 => 5,
        _ => 7,
    };
    format!("{value:.digits$}")
}

/// "1 run", "2 runs".
pub fn counted(count: usize, noun: &str) -> String {
    let mut text = format!("{count} {noun}");
    if count != 1 {
        // Writing to a string does not fail.
        let _ok = write!(text, "{}", if noun.ends_with("ries") { "" } else { "s" });
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_others_write_names_nobody_and_breaks_nothing() {
        assert_eq!(code("feature|x", 80), "`feature¦x`");
        assert_eq!(code("a`b``c", 80), "```a`b``c```");
        assert_eq!(code("`@alice`", 80), "`` `@alice` ``");
        assert_eq!(code("one\n\n<script>\ttwo", 80), "`one <script> two`");
        assert_eq!(code("gnp.\u{202e}exe\u{200b}", 80), "`gnp.exe`");
        assert_eq!(code("\u{200b}\n", 80), "(empty)");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("abcd", 4), "abcd");
        assert_eq!(
            defuse("@bob see #12, o/r#3, GH-4, a@b.c, @ alone"),
            "@\u{200b}bob see #\u{200b}12, o/r#\u{200b}3, GH-\u{200b}4, a@b.c, @ alone"
        );
        assert_eq!(block("sh", "echo ```\n```"), "````sh\necho ```\n```\n````");
    }

    #[test]
    fn numbers_are_short() {
        let told: Vec<_> = [0.0, 1234.56, 123.456, 12.3456, 1.23456, 0.123_456, 0.001_234, 0.000_012_3, -2.5e12]
            .iter()
            .map(|value| number(*value))
            .collect();
        assert_eq!(told, ["0", "1235", "123.5", "12.35", "1.235", "0.1235", "0.0012340", "1.230e-5", "-2.500e12"]);
        assert_eq!(
            (counted(1, "point"), counted(2, "point"), counted(3, "series")),
            ("1 point".into(), "2 points".into(), "3 series".into())
        );
    }

    proptest! {
        #[test]
        fn a_span_is_one_line_that_ends_where_it_should(text in "\\PC{0,60}|[`|@#\\\\<>\n\r\u{202e}\u{200b}a]{0,60}") {
            let span = code(&text, 40);
            let broken = span.contains(['|', '\n', '\r', '\u{202e}', '\u{200b}']);
            prop_assert!(!broken);
            if span != "(empty)" {
                let fence = span.chars().take_while(|c| *c == '`').count();
                prop_assert!(fence >= 1);
                let inner = &span[fence..span.len() - fence];
                prop_assert!(inner.split(|c| c != '`').all(|run| run.len() != fence), "{span}");
                prop_assert!(inner.chars().count() <= 42);
            }
        }
    }
}
