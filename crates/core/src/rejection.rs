//! Why a token is not valid.

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejection {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("its algorithm is not supported")]
    UnsupportedAlgorithm,
    #[error("its algorithm is not that of the signing key")]
    WrongAlgorithm,
    #[error("it needs an extension that is not supported")]
    CriticalExtension,
    #[error("its signing key is not known")]
    UnknownKey,
    #[error("its signing key has been revoked")]
    RevokedKey,
    #[error("its signature does not match")]
    BadSignature,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("it has no expiry")]
    NoExpiry,
    #[error("it is meant for another audience")]
    WrongAudience,
    #[error("it is a personal access token that is not live")]
    DeadToken,
    #[error("it has been denied")]
    Denied,
}

impl Rejection {
    /// The word for it that `pat.jwt_status` returns.
    pub fn status(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::NoExpiry | Self::WrongAudience => "malformed",
            Self::UnsupportedAlgorithm | Self::WrongAlgorithm | Self::CriticalExtension => {
                "unsupported_algorithm"
            }
            Self::UnknownKey => "unknown_key",
            Self::RevokedKey | Self::DeadToken | Self::Denied => "revoked",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
        }
    }
}
