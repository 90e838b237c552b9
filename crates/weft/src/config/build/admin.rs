//! The admin API.

use weft_api::{Permissions, Tokens};
use weft_net::Address;

use crate::config::{
    leaf::{Secret, Switch},
    plan,
    problem::Problem,
    sections::{Admin, Permission},
    setting::{At, Cx},
    source::Place,
};

/// The admin API; beyond the machine itself it is refused without a token.
pub(super) fn build(read: Option<&(Switch<Admin>, Place)>, cx: &mut Cx) -> Option<plan::Admin> {
    let (Switch::On(section), place) = read? else { return None };
    let local = match &section.listen.value {
        Address::Unix(_) => true,
        Address::Tcp(address) => address.ip().is_loopback(),
    };
    if !local && section.token.is_none() && section.tokens.0.is_empty() {
        cx.report(
            Problem::error(
                if section.listen.place.is_in_file() { section.listen.place } else { *place },
                format!(
                    "{} can be reached from other machines, and there is no `token`",
                    section.listen.value
                ),
            )
            .help("say `token: file:/run/secrets/weft`, or listen on 127.0.0.1"),
        );
    }
    let mut tokens = Tokens::default();
    if let Some(token) = &section.token {
        add(&mut tokens, token, Permissions::ALL, cx);
    }
    for (name, token) in &section.tokens.0 {
        let permissions: Vec<_> = token.permissions.iter().map(|one| permission(*one)).collect();
        if permissions.is_empty() {
            cx.report(
                Problem::error(name.place, format!("token `{}` may do nothing", name.value))
                    .help("say `permissions: read`, or some of read, publish, consume and manage"),
            );
        }
        add(&mut tokens, &token.token, Permissions::of(&permissions), cx);
    }
    Some(plan::Admin { listen: section.listen.value.clone(), tokens })
}

/// Adds a token, of which the plan keeps a digest alone.
fn add(tokens: &mut Tokens, token: &At<Secret>, permissions: Permissions, cx: &mut Cx) {
    token.discourage(cx);
    if !tokens.add(token.reveal().as_bytes(), permissions) {
        cx.report(
            Problem::error(token.place, "another token of the admin API is the same")
                .help("give each its own, so that it is known what it may do"),
        );
    }
}

const fn permission(of: Permission) -> weft_api::Permission {
    match of {
        Permission::Read => weft_api::Permission::Read,
        Permission::Publish => weft_api::Permission::Publish,
        Permission::Consume => weft_api::Permission::Consume,
        Permission::Manage => weft_api::Permission::Manage,
    }
}
