//! What comes of an attack.

use wasip2::filesystem::types::ErrorCode;
use wasip2::io::streams::StreamError;

/// An attack ends with what it gained or, mostly by `?`, with the first refusal.
pub type Outcome = Result<Gain, Refusal>;

/// What an attack ends with that met no refusal.
pub enum Gain {
    /// Nothing, and nothing was tried.
    Nothing,
    /// Nothing: where the attack looked, there was no more than this.
    NothingFound(String),
    /// Something that the host should have refused.
    Through(String),
    /// These bytes are to be the answer, whatever they are.
    Response(Vec<u8>),
}

/// Why an attack failed.
pub struct Refusal(pub String);

/// The attack was refused nothing, and found nothing.
pub fn nothing(what: impl Into<String>) -> Outcome {
    Ok(Gain::NothingFound(what.into()))
}

/// The attack got what it should not have got.
pub fn through(what: impl Into<String>) -> Outcome {
    Ok(Gain::Through(what.into()))
}

/// The attack came to nothing.
pub fn blocked(reason: impl Into<String>) -> Outcome {
    Err(Refusal(reason.into()))
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self(code.name().to_owned())
    }
}

impl From<StreamError> for Refusal {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Closed => Self("closed".to_owned()),
            StreamError::LastOperationFailed(error) => {
                match wasip2::filesystem::types::filesystem_error_code(&error) {
                    Some(code) => code.into(),
                    None => Self(error.to_debug_string()),
                }
            }
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}
