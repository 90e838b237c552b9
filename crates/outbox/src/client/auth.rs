//! Says who the node is: SCRAM, or a password in the clear where TLS hides it.

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    message::{backend::Message, frontend},
};

use super::{Client, Failure, ServerError};
use crate::database::Database;

/// The most rounds that a server may have the node reckon; what servers ask for by themselves is 4,096.
const ROUNDS_MAX: u32 = 1_000_000;

/// Answers the server's questions until it takes questions itself.
pub(super) async fn let_in(client: &mut Client, database: &Database) -> Result<(), Failure> {
    client.send().await?;
    let password = || {
        let none = || Failure::Away("the server asks for a password, and there is none".into());
        database.password.as_deref().map(str::as_bytes).ok_or_else(none)
    };
    loop {
        match client.message().await? {
            Message::AuthenticationOk | Message::BackendKeyData(_) => {}
            Message::AuthenticationSasl(body) => {
                let offered = body.mechanisms().any(|name| Ok(name == SCRAM_SHA_256))?;
                if !offered {
                    return Err(Failure::Away("the server takes no SCRAM-SHA-256".into()));
                }
                scram(client, password()?).await?;
            }
            Message::AuthenticationCleartextPassword if database.tls => {
                frontend::password_message(password()?, &mut client.write)?;
                client.send().await?;
            }
            Message::AuthenticationCleartextPassword => {
                let say = "the server asks for the password in the clear: use TLS, or SCRAM";
                return Err(Failure::Away(say.into()));
            }
            Message::AuthenticationMd5Password(_) => {
                let say = "the server asks for MD5, which is broken: have the password stored anew with \
                           `password_encryption = 'scram-sha-256'`";
                return Err(Failure::Away(say.into()));
            }
            Message::ErrorResponse(body) => return Err(Failure::Server(ServerError::of(&body))),
            Message::ReadyForQuery(_) => return Ok(()),
            _ => {
                return Err(Failure::Protocol(
                    "the server asks for a way of letting in that is not known".into(),
                ));
            }
        }
    }
}

async fn scram(client: &mut Client, password: &[u8]) -> Result<(), Failure> {
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut client.write)?;
    client.send().await?;
    let first = match client.message().await? {
        Message::AuthenticationSaslContinue(body) => body,
        Message::ErrorResponse(body) => return Err(Failure::Server(ServerError::of(&body))),
        _ => return Err(Failure::Protocol("the server breaks off SCRAM".into())),
    };
    if rounds(first.data()).is_none_or(|rounds| rounds > ROUNDS_MAX) {
        return Err(Failure::Protocol("the server asks for too many rounds of SCRAM".into()));
    }
    scram.update(first.data())?;
    frontend::sasl_response(scram.message(), &mut client.write)?;
    client.send().await?;
    match client.message().await? {
        // Whoever knows no password cannot have made this either.
        Message::AuthenticationSaslFinal(body) => Ok(scram.finish(body.data())?),
        Message::ErrorResponse(body) => Err(Failure::Server(ServerError::of(&body))),
        _ => Err(Failure::Protocol("the server breaks off SCRAM".into())),
    }
}

/// The rounds that the first message of a server asks for.
fn rounds(first: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(first).ok()?;
    text.split(',').find_map(|part| part.strip_prefix("i="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_found() {
        for (text, expect) in [
            ("r=abc,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", Some(4096)),
            ("r=abc,s=x,i=4294967295", Some(u32::MAX)),
            ("r=abc,s=x,i=99999999999", None),
            ("r=abc", None),
        ] {
            assert_eq!(rounds(text.as_bytes()), expect, "{text}");
        }
    }
}
