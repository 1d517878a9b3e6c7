//! What a client is told when something is wrong: the code by the kind of trouble, the words by the error.

use std::error::Error;

use tonic::{Status, metadata::MetadataValue};

use super::signature::SignatureError;
use crate::{
    api::status::grpc_code,
    class::Class,
    service::{CancelError, CreateArtifactError, RegisterError, StatusError, SubmitError},
};

/// Marks an `INTERNAL` as ours, on its way to the door.
pub(super) const DEFECT: &str = "hierophant-defect";

/// Longest sentence that a client is told. Each byte may take three in the header.
const MAX_SENTENCE_BYTES: usize = 2048;

/// An error as the client gets it. What is ours to mend goes into the log, with its causes, and only there.
fn refusal(class: Class, error: &dyn Error) -> Status {
    match class {
        Class::Internal => tracing::error!(error = chain(error), "a client's call failed through a defect"),
        Class::Unavailable => tracing::warn!(error = chain(error), "a client's call cannot be served for the moment"),
        _ => tracing::debug!(error = chain(error), "a client's call was refused"),
    }
    let mut status = Status::new(grpc_code(class), bounded(error.to_string()));
    if class == Class::Internal {
        status.metadata_mut().insert(DEFECT, MetadataValue::from_static("1"));
    }
    status
}

/// A sentence that fits into the header that carries it, whose other end takes 16 KiB.
fn bounded(mut sentence: String) -> String {
    if sentence.len() > MAX_SENTENCE_BYTES {
        let end = (0..=MAX_SENTENCE_BYTES).rev().find(|end| sentence.is_char_boundary(*end)).unwrap_or_default();
        sentence.truncate(end);
        sentence.push('…');
    }
    sentence
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Makes `?` turn an error of a use case into an answer.
macro_rules! answers {
    ($($error:ty),*) => {$(
        impl From<$error> for Refusal {
            fn from(error: $error) -> Self {
                Self(refusal(error.class(), &error))
            }
        }
    )*};
}

/// An answer that refuses. A type of our own, since [`Status`] and the errors belong to others.
pub(super) struct Refusal(Status);

answers!(SubmitError, RegisterError, CancelError, StatusError, CreateArtifactError);

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        Self(refusal(Class::Unauthenticated, &error))
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.0
    }
}

impl Refusal {
    /// The input is wrong.
    pub(super) fn rejected(sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        tracing::debug!(error = sentence, "a client's call was refused");
        Self(Status::invalid_argument(bounded(sentence)))
    }

    /// There is no such thing.
    pub(super) fn not_found(sentence: impl Into<String>) -> Self {
        Self(Status::not_found(sentence))
    }
}
