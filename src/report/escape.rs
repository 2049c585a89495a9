//! Escaping of untrusted text and paths in HTML.

use std::fmt;

/// Untrusted text, escaped for content and quoted attributes.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\0' => f.write_str("\u{fffd}")?,
                _ => fmt::Write::write_char(f, character)?,
            }
        }
        Ok(())
    }
}

/// A path as a link target, encoded so that it can name neither a scheme nor a host.
pub(crate) struct Link<'a>(pub(crate) &'a str);

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("./")?;
        for byte in self.0.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    fmt::Write::write_char(f, char::from(byte))?;
                }
                _ => write!(f, "%{byte:02X}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_for_content_and_attributes() {
        let hostile = "<script>alert('&')</script>\"\0";
        let escaped = "&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;&quot;\u{fffd}";
        assert_eq!(Text(hostile).to_string(), escaped);
    }

    #[test]
    fn a_link_is_relative_to_the_page() {
        assert_eq!(Link("000-cat.jpg").to_string(), "./000-cat.jpg");
        assert_eq!(Link("a b?c#d").to_string(), "./a%20b%3Fc%23d");
        assert_eq!(Link("javascript:alert(1)").to_string(), "./javascript%3Aalert%281%29");
        assert_eq!(Link("//host/x.jpg").to_string(), ".///host/x.jpg");
    }
}
