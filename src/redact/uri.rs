//! The one rule for URIs: no query, no fragment, no user info.
//!
//! A password may hold `/`, `?`, `#` or `@` although the standard requires them encoded. So
//! everything up to the last `@` counts as user info. The exception is an `@` that can only be part
//! of a path: after `scheme://name`, with no colon before it. Without a colon there is no password.

use std::borrow::Cow;

/// Longest redacted URI, in characters.
const CHARS_MAX: usize = 256;

/// Longest redacted URI, in bytes: text in other scripts must leave room for the rest of a message.
const BYTES_MAX: usize = 512;

/// Schemes that end a text in front of a URI. Another word before `://` may be part of a password.
const STORE_SCHEMES: [&str; 6] = ["az", "file", "gs", "http", "https", "s3"];

/// Replacement for user info.
const HIDDEN: &str = "***";

/// Follows the scheme of a URI whose user info is hidden.
const AFTER_SCHEME: &str = ":***@";

/// Redacts a text that is one URI as a whole, escapes control characters and shortens it.
pub(crate) fn uri(uri: &str) -> String {
    let redacted = without_secrets(uri);
    let mut characters = redacted.chars();
    let mut shown = String::new();
    for character in characters.by_ref().take(CHARS_MAX) {
        if character.is_control() {
            shown.extend(character.escape_debug());
        } else {
            shown.push(character);
        }
    }
    let is_cut = shown.len() > BYTES_MAX || characters.next().is_some();
    shown.truncate(shown.floor_char_boundary(BYTES_MAX));
    if is_cut {
        shown.push('…');
    }
    shown
}

/// Redacts the id of a reference, which is its URI unless the sender chose another one.
pub(crate) fn id(id: &str) -> Cow<'_, str> {
    match id.split_once(':') {
        Some((scheme, _)) if is_scheme(scheme) => Cow::Owned(uri(id)),
        Some(_) => Cow::Owned(uris_in(id)),
        None => Cow::Borrowed(id),
    }
}

/// Redacts every URI in a text.
pub(crate) fn uris_in(text: &str) -> String {
    // Only characters that no URI holds end one, or the end of a secret would remain.
    let is_delimiter = |c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>');
    let mut redacted = String::with_capacity(text.len());
    for piece in text.split_inclusive(is_delimiter) {
        let word = piece.strip_suffix(is_delimiter).unwrap_or(piece);
        let (before, uri) = word.split_at(uri_start(word));
        redacted.push_str(before);
        redacted.push_str(&without_secrets(uri));
        redacted.extend(piece.strip_prefix(word));
    }
    redacted
}

/// Returns true if the text may be the scheme of a URI.
pub(crate) fn is_scheme(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(is_scheme_character)
}

fn is_scheme_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "+-.".contains(character)
}

/// Returns the position of the scheme in a word such as `(https://…`, or the word's end if it holds
/// no URI.
fn uri_start(word: &str) -> usize {
    // `error:https://…` begins at its second colon, `me:secret@https://…` and `me:secret://…` at
    // the first. A text that is redacted already must stay the same.
    let colon = word
        .find("://")
        .or_else(|| word.find(AFTER_SCHEME))
        .filter(|&colon| {
            let before = word.split_at(colon).0;
            let is_known = |scheme: &str| STORE_SCHEMES.contains(&scheme);
            !before.contains('@')
                && before.rsplit_once(':').is_none_or(|(_, scheme)| {
                    is_known(scheme.trim_start_matches(|c| !is_scheme_character(c)))
                })
        })
        .or_else(|| word.find(':'));
    let Some(colon) = colon else { return word.len() };
    let scheme = word.split_at(colon).0;
    scheme.trim_end_matches(is_scheme_character).len()
}

fn without_secrets(uri: &str) -> String {
    let (kept, rest) = uri.split_at(uri.find(['?', '#']).unwrap_or(uri.len()));
    let mut redacted = if may_hold_user_info(uri) {
        let scheme = shown_scheme(uri);
        match kept.rsplit_once('@') {
            Some((_, after)) if !rest.contains('@') => format!("{scheme}{HIDDEN}@{after}"),
            _ => format!("{scheme}{HIDDEN}"),
        }
    } else {
        kept.to_owned()
    };
    if !rest.is_empty() {
        redacted.push('…');
    }
    redacted
}

fn may_hold_user_info(uri: &str) -> bool {
    let rest = match uri.split_once(':') {
        Some((scheme, rest)) if scheme.is_empty() || is_scheme(scheme) => rest,
        _ => uri,
    };
    let is_rooted = rest.starts_with("//");
    // URL parsers read `https:///host` and `https:\\host` as `https://host`.
    let rest = rest.trim_start_matches(['/', '\\']);
    let (authority, path) = rest.split_at(rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len()));
    match rest.rsplit_once('@') {
        Some((before, _)) => {
            let is_in_path = path.starts_with('/') && is_plain_name(authority);
            !is_rooted || !is_in_path || before.contains(':')
        }
        // The `@` may have been lost with the end of the text.
        None => is_rooted && !is_host_with_port(authority),
    }
}

/// Returns the scheme with its colon, or nothing if it may be a user name.
fn shown_scheme(uri: &str) -> &str {
    match uri.split_once(':') {
        Some((scheme, rest))
            if rest.starts_with(HIDDEN) || !scheme.is_empty() && rest.starts_with("//") =>
        {
            uri.split_at(scheme.len() + 1).0
        }
        _ => "",
    }
}

/// Returns true for the names of hosts in ASCII, of buckets and of containers such as `$web`.
fn is_plain_name(name: &str) -> bool {
    let name = name.strip_prefix('$').unwrap_or(name);
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Returns false if a colon precedes anything but a port.
fn is_host_with_port(authority: &str) -> bool {
    // In a sentence, punctuation may follow.
    let authority = authority.trim_end_matches([',', ';', ':', '.', ')', '\'', '`', '…']);
    if authority.starts_with('[') && authority.ends_with(']') {
        return true;
    }
    let Some((host, port)) = authority.rsplit_once(':') else { return true };
    let is_host = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
    is_host && port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The cases in which the two former rules, for messages and for dead letters, disagreed or
    /// both showed a secret.
    #[test]
    fn one_rule_holds_for_a_uri_and_for_a_text_with_uris() {
        let check = |text: &str, expected: &str| {
            assert_eq!(uri(text), expected, "as a URI");
            assert_eq!(uris_in(text), expected, "in a text");
            assert_eq!(uris_in(expected), expected, "redacted twice");
        };
        check("https://me:s3cret@a.com/b.jpg", "https:***@a.com/b.jpg");
        check("https://a.com/b.jpg?X-Amz-Signature=s3cret", "https://a.com/b.jpg…");
        check("https://a.com/b.jpg#s3cret", "https://a.com/b.jpg…");
        // A `?` or `#` in the password.
        check("https://me:s3?cret@a.com/b.jpg", "https:***…");
        check("https://me:s3#cret@a.com", "https:***…");
        check("https://me:s3/cr?et@a.com/b.jpg", "https:***…");
        check("s3://AKIA:s3?cret/more@photos/b.jpg", "s3:***…");
        check("https://t0ken?x@a.com/b.jpg", "https:***…");
        // No `//`, or slashes that servers forgive.
        assert_eq!(uris_in("error:https://me:s3cret@a.com/b"), "error:https:***@a.com/b");
        assert_eq!(uris_in("error:https:***@a.com/b"), "error:https:***@a.com/b");
        assert_eq!(uris_in("me:s3cret:***@a.com/b"), "***@a.com/b");
        check("https:me:s3cret@a.com/b.jpg", "***@a.com/b.jpg");
        check("me:s3cret@a.com", "***@a.com");
        check("https:a.com/b.jpg?s3cret", "https:a.com/b.jpg…");
        check("https:///me:s3cret@a.com/b.jpg", "https:***@a.com/b.jpg");
        check("https:\\\\me:s3cret@a.com\\b.jpg", "***@a.com\\b.jpg");
        // A slash in the password, so that the user name looks like a host.
        check("https://me\\s3cret@a.com/b.jpg", "https:***@a.com/b.jpg");
        check("https://pa$s/s3cret@a.com", "https:***@a.com");
        check("https://me:s3/cret@a.com/b.jpg", "https:***@a.com/b.jpg");
        check("https://me:42/s3cret@a.com/b.jpg", "https:***@a.com/b.jpg");
        check("https://me:/s3cret@a.com/b.jpg", "https:***@a.com/b.jpg");
        check("s3://AKIA:42/s3cret@photos/b.jpg", "s3:***@photos/b.jpg");
        // An address within an address.
        check("https://proxy/https://me:s3cret@a.com/b.jpg", "https:***@a.com/b.jpg");
        // An address that lost its end.
        check("https://me:s3cret", "https:***");
        check("https://me:4711:s3cret", "https:***");
        // An `@` in a path that must stay readable.
        check("https://a.com/b@2x.jpg", "https://a.com/b@2x.jpg");
        check("s3://photos/b@2x.jpg", "s3://photos/b@2x.jpg");
        check("az://$web/b@2x.jpg", "az://$web/b@2x.jpg");
        check("file:///photos/b@2x.jpg", "file:///photos/b@2x.jpg");
        // Without user info, ports and all kinds of hosts.
        check("https://a.com:8443/b.jpg", "https://a.com:8443/b.jpg");
        check("https://[::1]:8443/b.jpg", "https://[::1]:8443/b.jpg");
        check("https://[::1]/b.jpg", "https://[::1]/b.jpg");
        check("https://bücher.example/b.jpg", "https://bücher.example/b.jpg");
        check("https://a.com?b", "https://a.com…");
        // With a port, an `@` is in doubt.
        check("https://a.com:8443/b@2x.jpg", "https:***@2x.jpg");
        check("https://a.com/b.jpg?mail=me@a.com", "https://a.com/b.jpg…");
        check("https://a.com:8443/b.jpg?mail=me@a.com", "https:***…");
    }

    #[test]
    fn a_text_keeps_everything_that_is_no_uri() {
        let check = |text: &str, expected: &str| {
            assert_eq!(uris_in(text), expected);
            assert_eq!(uris_in(expected), expected, "redacted twice");
        };
        check("GET https://h/p?sig=s)e'c: gave 403", "GET https://h/p… gave 403");
        check("\"https://u:p@h/a?x=1\" and http://h?k", "\"https:***@h/a…\" and http://h…");
        check("error:https://h/a@2x.jpg", "error:https://h/a@2x.jpg");
        check("me:s3cret@https://h/a", "***@https://h/a");
        check("https::s3cret://@a.com/b.jpg", "***@a.com/b.jpg");
        check("https:me:s3cret://@a.com/b.jpg", "***@a.com/b.jpg");
        check("(https://u:p@h/a)", "(https:***@h/a)");
        check("next=https://h:8443, then", "next=https://h:8443, then");
        check("s3://photos/b@2x.jpg: it is missing", "s3://photos/b@2x.jpg: it is missing");
        check("no uri? none at all, mail me@a.com", "no uri? none at all, mail me@a.com");
        check("image-references/2@41", "image-references/2@41");
        check("", "");
    }

    #[test]
    fn a_uri_is_escaped_and_shortened() {
        assert_eq!(uri("s3://photos/a\nb\u{1b}[31m"), "s3://photos/a\\nb\\u{1b}[31m");
        assert_eq!(uri("https://me:s3 cret@a.com/b.jpg"), "https:***@a.com/b.jpg");
        assert_eq!(uri("t0ken@a.com:443?x"), "***@a.com:443…");
        assert_eq!(uri("t0k?en@a.com:443"), "***…");
        assert_eq!(uri(&"x".repeat(5000)).chars().count(), 257);
        for wide in ["写", "\u{85}"] {
            let shown = uri(&wide.repeat(250));
            assert!(shown.ends_with('…') && shown.len() < 520, "{} bytes", shown.len());
        }
    }

    #[test]
    fn an_id_that_is_no_uri_is_shown_unchanged() {
        let check = |text: &str, expected: &str| assert_eq!(id(text), expected);
        check("upload #4711?", "upload #4711?");
        check("photos/a?.jpg", "photos/a?.jpg");
        check("https://a.com/b.jpg?X-Amz-Signature=s3cret", "https://a.com/b.jpg…");
        check("https:me:s3cret@a.com/b.jpg", "***@a.com/b.jpg");
        check("see https://a.com/b.jpg?s3cret", "see https://a.com/b.jpg…");
    }

    proptest! {
        #[test]
        fn no_password_is_shown(
            before in r#"[^\s"<>]{0,8}"#,
            user in r#"[^\s"<>]{0,8}"#,
            [start, end] in [r#"[^\s"<>]{0,8}"#, r#"[^\s"<>]{0,8}"#],
            separator in "(:/{0,3}|://)",
        ) {
            let address = format!("https{separator}{user}:{start}s3cret{end}@a.com/b.jpg");
            prop_assert!(!uri(&address).contains("s3cret"));
            let text = format!("{before}{address}");
            prop_assert!(!uris_in(&text).contains("s3cret"), "{}", uris_in(&text));
        }

        #[test]
        fn no_query_is_shown(start in "(s3|gs|az|http|https|file|x)?:?/{0,3}.{0,60}") {
            let address = format!("{start}?s3cret");
            prop_assert!(!uri(&address).contains("s3cret"));
        }
    }
}
