//! The credential between the steps of a pipeline and the agent.

use std::fmt;

use rand::distr::{Alphanumeric, SampleString as _};
use subtle::ConstantTimeEq as _;

/// `source.token`: 16 to 512 visible ASCII characters, so that it fits into an HTTP header as it is.
///
/// `Debug` hides it, and there is no `Display`: whoever needs it calls [`Token::expose`].
#[derive(Clone)]
pub struct Token(String);

/// Why a token was refused. Says nothing of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Concourse had no value for the variable.
    #[error(
        "is a variable that Concourse did not fill in: set it in the credential manager or with fly's -v"
    )]
    Variable,
    /// Guessable.
    #[error("is too short: use 16 to 512 characters, such as `openssl rand -hex 32` prints")]
    Short,
    /// Too long for a header.
    #[error("is too long: use 16 to 512 characters, such as `openssl rand -hex 32` prints")]
    Long,
    /// Not fit for a header.
    #[error(
        "holds a space, a line break or a character outside ASCII: use letters, digits and punctuation, such as \
         `openssl rand -hex 32` prints"
    )]
    Character,
}

impl Token {
    /// A new one, of 40 random letters and digits (238 bits).
    pub fn generate() -> Self {
        Self(Alphanumeric.sample_string(&mut rand::rng(), 40))
    }

    /// The token itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this token. Takes the same time wherever they differ.
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl TryFrom<String> for Token {
    type Error = BadToken;

    fn try_from(text: String) -> Result<Self, BadToken> {
        if text.starts_with("((") && text.ends_with("))") {
            return Err(BadToken::Variable);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadToken::Character);
        }
        match text.len() {
            0..16 => Err(BadToken::Short),
            16..=512 => Ok(Self(text)),
            _ => Err(BadToken::Long),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Token {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_a_token() {
        for (text, verdict) in [
            ("((nodes.token))".to_owned(), Some(BadToken::Variable)),
            (String::new(), Some(BadToken::Short)),
            ("x".repeat(15), Some(BadToken::Short)),
            ("x".repeat(16), None),
            ("x".repeat(512), None),
            ("x".repeat(513), Some(BadToken::Long)),
            ("0123456789abcdef\n".to_owned(), Some(BadToken::Character)),
            ("0123456789 abcdef".to_owned(), Some(BadToken::Character)),
            ("0123456789abcdéf0".to_owned(), Some(BadToken::Character)),
        ] {
            assert_eq!(Token::try_from(text.clone()).err(), verdict, "{text}");
        }
    }

    #[test]
    fn it_is_not_shown() {
        let token = Token::try_from("0123456789abcdef".to_owned()).unwrap();
        assert_eq!(format!("{token:?}"), "(secret)");
    }

    proptest! {
        #[test]
        fn it_matches_itself_alone(one in "[!-~]{16,40}", other in "[!-~]{0,40}") {
            prop_assume!(!one.starts_with("(("));
            let token = Token::try_from(one.clone()).unwrap();
            prop_assert!(token.matches(one.as_bytes()));
            prop_assert_eq!(token.matches(other.as_bytes()), one == other);
        }
    }
}
