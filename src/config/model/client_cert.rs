//! What the upstream hears of a client's certificate (`x-forwarded-client-cert`).

/// `forward_client_cert_details` and `set_current_client_cert_details`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertRules {
    /// `forward_client_cert_details`.
    pub mode: ForwardClientCert,
    /// `subject`.
    pub subject: bool,
    /// `uri`.
    pub uri: bool,
    /// `dns`.
    pub dns: bool,
}

/// `forward_client_cert_details`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// Nothing.
    #[default]
    Sanitize,
    /// What a client says that has shown a certificate.
    ForwardOnly,
    /// The same, and who it is.
    AppendForward,
    /// Only who it is.
    SanitizeSet,
    /// What any client says.
    AlwaysForwardOnly,
}
