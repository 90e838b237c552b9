//! What is said about consumers, and about the issuers of their tokens.

pub mod logins;

use weft_kernel::Name;

use super::stores::LIMIT_STORES;
use crate::config::{
    catalogue::KeyOf,
    leaf::{InputFile, Many, Named, Pairs, Secret, Some1, Span, Switch},
    setting::{At, Field, settings, words},
};

/// Consumers.
pub const CONSUMERS: KeyOf<Named<Consumer>> =
    KeyOf::new("consumers", "Consumers by name: clients that the node knows by their credentials.");

/// Issuers.
pub const ISSUERS: KeyOf<Named<Issuer>> = KeyOf::new(
    "issuers",
    "Issuers of tokens by name: those whose JSON Web Tokens routes may take.",
);

/// OAuth clients.
pub const OAUTH_CLIENTS: KeyOf<Named<OAuthClient>> = KeyOf::new(
    "oauth_clients",
    "OAuth 2 clients by name: what the node is to authorization servers that give it tokens for services.",
);

/// Keys of signatures.
pub const SIGNATURE_KEYS: KeyOf<Named<SignatureKey>> =
    KeyOf::new("signature_keys", "Keys by name by which clients sign their requests (RFC 9421).");

/// All of them.
pub const ALL: &[Field] = &[
    CONSUMERS.field(),
    ISSUERS.field(),
    OAUTH_CLIENTS.field(),
    SIGNATURE_KEYS.field(),
    logins::LOGINS.field(),
    LIMIT_STORES.field(),
];

words! {
    /// Algorithm of a token's signature (RFC 7518 section 3.1).
    pub enum Signing {
        /// RSA with SHA-256
        Rs256 = "RS256",
        /// RSA with SHA-384
        Rs384 = "RS384",
        /// RSA with SHA-512
        Rs512 = "RS512",
        /// RSA PSS with SHA-256
        Ps256 = "PS256",
        /// RSA PSS with SHA-384
        Ps384 = "PS384",
        /// RSA PSS with SHA-512
        Ps512 = "PS512",
        /// ECDSA on P-256
        Es256 = "ES256",
        /// ECDSA on P-384
        Es384 = "ES384",
        /// ECDSA on P-521
        Es512 = "ES512",
        /// Ed25519
        EdDsa = "EdDSA",
        /// a secret, with SHA-256
        Hs256 = "HS256",
        /// a secret, with SHA-384
        Hs384 = "HS384",
        /// a secret, with SHA-512
        Hs512 = "HS512",
    }
}

words! {
    /// Algorithm of the signature of a request (RFC 9421 section 6.2.2).
    pub enum SignatureAlgorithm {
        /// RSA PSS with SHA-512
        RsaPssSha512 = "rsa-pss-sha512",
        /// RSA, PKCS #1 v1.5, with SHA-256
        RsaV15Sha256 = "rsa-v1_5-sha256",
        /// a secret, with SHA-256
        HmacSha256 = "hmac-sha256",
        /// ECDSA on P-256
        EcdsaP256Sha256 = "ecdsa-p256-sha256",
        /// ECDSA on P-384
        EcdsaP384Sha384 = "ecdsa-p384-sha384",
        /// Ed25519
        Ed25519 = "ed25519",
    }
}

words! {
    /// How a client of an OAuth 2 server shows its secret (RFC 6749 section 2.3.1).
    pub enum ClientWay {
        /// in `Authorization` (`client_secret_basic`)
        Basic = "basic",
        /// in the form (`client_secret_post`)
        Post = "post",
    }
}

words! {
    /// How a client of an authorization server shows who it is (RFC 6749 section 2.3, RFC 7523).
    pub enum TokenClientWay {
        /// secret in `Authorization` (`client_secret_basic`)
        Basic = "basic",
        /// secret in the form (`client_secret_post`)
        Post = "post",
        /// token that it signs by its key for each question
        PrivateKeyJwt = "private_key_jwt",
    }
}

words! {
    /// Type of a token that is offered in exchange for another (RFC 8693 section 3).
    pub enum SubjectType {
        /// access token of OAuth 2
        AccessToken = "access_token",
        /// ID token of OpenID Connect
        IdToken = "id_token",
        /// JSON Web Token
        Jwt = "jwt",
    }
}

settings! {
    /// Consumer: a client that the node knows.
    pub struct Consumer = "consumer" {
        /// Groups that it is in.
        groups: Many<Name>,
        /// API keys, or `sha256:` and the digest of one; `file:PATH` reads one from a file. With more than one, a
        /// key is rotated without a pause.
        api_keys: Many<At<Secret>>,
        /// User name and password.
        basic: Option<Basic>,
        /// Subjects (`sub`) of its tokens, by issuer.
        subjects: Pairs<At<String>, At<String>>,
        /// Names in its client certificates.
        certificates: Many<CertificateSection>,
    }

    /// Issuer of JSON Web Tokens (RFC 7519).
    pub struct Issuer = "issuer" {
        /// Its name for itself, as `iss` of its tokens has it.
        issuer: At<String>,
        /// Audiences of which `aud` of a token must name one, unless a policy names others; `off` takes tokens
        /// that are meant for anybody.
        audiences: Switch<Some1<String>>,
        /// Keys by which its tokens are verified, for the method `jwt`.
        keys: Option<Keys>,
        /// Endpoint that is asked about its tokens (RFC 7662), for the method `introspection`.
        introspection: Option<Introspection>,
        /// Algorithms that it may use. RS256, PS256, ES256 and EdDSA if none is named; HS256 with a secret.
        algorithms: Many<At<Signing>>,
        /// Time by which its clock may differ from that of the node.
        skew: Span = "60s",
        /// Claims that a token must have; those within others are named with dots.
        require: Many<String> = "exp",
        /// Type (`typ`) that a token must have, such as `at+jwt`. Without it, none, `JWT` and `at+jwt` are taken.
        kind("type"): Option<String>,
        /// Claim that names the consumer; a token that names none is refused. Subjects of consumers come first.
        consumer: Option<String>,
        /// Consumers that this claim may name; any, also those of other issuers, if none is named.
        consumers: Many<Name>,
    }

    /// Introspection endpoint of an issuer, and what it knows the node as.
    pub struct Introspection = "introspection endpoint" {
        /// URL of the endpoint.
        url: At<String>,
        /// Id of the node as a client of the issuer.
        client_id: At<String>,
        /// Secret of the client; `file:PATH` reads it from a file.
        client_secret: At<Secret>,
        /// How the client shows its secret.
        client_authentication: ClientWay = "basic",
        /// Authority of the certificate at the URL, in PEM; those of the system if it is left out.
        ca_file: Option<At<InputFile>>,
        /// Longest time for which a token that is active is believed without asking again. It ends with the
        /// token.
        cache: Span = "1m",
        /// Time for which a token that is not active is refused without asking again.
        cache_inactive: Span = "10s",
    }

    /// OAuth 2 client: what the node is to an authorization server that gives it tokens.
    pub struct OAuthClient = "OAuth client" {
        /// URL of the token endpoint.
        token_url: At<String>,
        /// Id of the node as a client of the server.
        client_id: At<String>,
        /// Secret of the client, for `basic` and `post`; `file:PATH` reads it from a file.
        client_secret: Option<At<Secret>>,
        /// Private key of the client in PEM, for `private_key_jwt`: of RSA, which signs by RS256, of P-256, P-384 or
        /// P-521, or of Ed25519; `file:PATH` reads it from a file.
        client_key: Option<At<Secret>>,
        /// Id of the key (`kid`), where the server needs it.
        client_key_id: Option<At<String>>,
        /// How the client shows who it is.
        client_authentication: TokenClientWay = "basic",
        /// Authority of the certificate at the URL, in PEM; those of the system if it is left out.
        ca_file: Option<At<InputFile>>,
        /// Scopes that a token is to have (`scope`).
        scopes: Many<At<String>>,
        /// Services that a token is to be for, as the server calls them (`audience`).
        audiences: Many<String>,
        /// URLs of the services that a token is to be for (`resource`, RFC 8707).
        resources: Many<String>,
        /// Type of the tokens that are offered in exchange (`subject_token_type`, RFC 8693).
        subject_token_type: SubjectType = "access_token",
        /// Time for which a token is used whose end the server does not tell.
        lifetime: At<Span> = "5m",
    }

    /// Keys of an issuer: a URL, a file or a secret.
    pub struct Keys = "keys", short "url" {
        /// URL of its JWK set (RFC 7517).
        url: Option<At<String>>,
        /// File with a JWK set, or with public keys or certificates in PEM.
        file: Option<At<InputFile>>,
        /// Secret for HS256, HS384 and HS512; `file:PATH` reads it from a file.
        secret: Option<At<Secret>>,
        /// Authority of the certificate at the URL, in PEM; those of the system if it is left out.
        ca_file: Option<At<InputFile>>,
        /// Time for which a set is fresh; it is fetched again before that is over.
        cache: Span = "10m",
        /// Time for which a set is used beyond that while it cannot be fetched.
        stale: Span = "1h",
    }

    /// Key by which a client signs its requests.
    pub struct SignatureKey = "key of signatures" {
        /// Consumer whose it is.
        consumer: At<Name>,
        /// Algorithm that it is for, and no other, whatever a signature says.
        algorithm: SignatureAlgorithm,
        /// Its id, as `keyid` of a signature has it; the name of the key if it is left out.
        id: Option<At<String>>,
        /// File with the public key: PEM, a certificate, or a JWK.
        public_key: Option<At<InputFile>>,
        /// Secret for `hmac-sha256`, of at least 32 bytes; `file:PATH` reads it from a file.
        secret: Option<At<Secret>>,
        /// Whether the secret is written in Base64.
        base64: bool = "false",
    }

    /// Name in a client certificate: one of these.
    pub struct CertificateSection = "certificate name", short "uri" {
        /// URI among its alternative names, such as a SPIFFE id.
        uri: Option<String>,
        /// DNS name among its alternative names.
        dns: Option<String>,
        /// Distinguished name of its subject, as `x-forwarded-client-cert` has it.
        subject: Option<String>,
        /// SHA-256 digest of the certificate, in hexadecimal.
        fingerprint: Option<String>,
    }

    /// User name and password.
    pub struct Basic = "user name and password", short "passwords" {
        /// User name; the name of the consumer if it is left out.
        username: Option<At<String>>,
        /// Passwords that are taken, or `sha256:` and the digest of `USERNAME:PASSWORD`; `file:PATH` reads one
        /// from a file.
        passwords: Some1<At<Secret>>,
    }
}
