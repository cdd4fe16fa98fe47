//! What can go wrong with a pool, by kind: retries and exit codes depend on the kind, never on the text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::world::http::{HttpError, HttpErrorKind};

/// A call to a pool that failed.
#[derive(Debug)]
pub struct PoolError {
    kind: PoolErrorKind,
    source: anyhow::Error,
}

/// The kind of a [`PoolError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolErrorKind {
    /// No connection, or it broke.
    Unreachable,
    /// No answer before the call's deadline.
    TimedOut,
    /// The pool refuses: a token that it does not take, a right that is missing.
    Refused,
    /// The pool has no such node, service or server.
    NotMember,
    /// An answer that can't be understood.
    BadAnswer,
    /// Something on this host: a token file that can't be read, a folder that can't be written.
    Local,
}

impl PoolErrorKind {
    /// Whether it may be over in a moment by itself: a registry that elects a leader, an agent that is started again.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable | Self::TimedOut)
    }
}

impl PoolError {
    /// An error of `kind` with its cause, which must not contain a secret.
    pub fn new(kind: PoolErrorKind, source: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            source: source.into(),
        }
    }

    /// What kind of failure it is.
    #[must_use]
    pub fn kind(&self) -> PoolErrorKind {
        self.kind
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.source)
    }
}

impl std::error::Error for PoolError {}

impl From<HttpError> for PoolError {
    fn from(error: HttpError) -> Self {
        let kind = match error.kind() {
            HttpErrorKind::Unreachable => PoolErrorKind::Unreachable,
            HttpErrorKind::TimedOut => PoolErrorKind::TimedOut,
            HttpErrorKind::BadAnswer => PoolErrorKind::BadAnswer,
            HttpErrorKind::Local => PoolErrorKind::Local,
        };
        Self::new(kind, error)
    }
}
