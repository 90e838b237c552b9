//! Sources of secrets.

use crate::config::{
    leaf::{FilePath, Some1, Span},
    setting::{At, settings},
};

settings! {
    /// Source of a secret, or of a folder of them: one of these.
    pub struct SecretSource = "secret" {
        /// File that holds it; changes of it are watched.
        file: Option<At<FilePath>>,
        /// Folder whose files hold one secret each, as Kubernetes and Vault Agent mount them. `${secret:NAME/FILE}`
        /// is the one in a file.
        folder: Option<At<FilePath>>,
        /// Environment variable that holds it.
        env: Option<At<String>>,
        /// Command that prints it.
        command: Option<CommandSource>,
    }

    /// Command that prints a secret. It is run without a shell and is given no input.
    pub struct CommandSource = "command", short "run" {
        /// Program and its arguments. A path with a slash is relative to the folder of the configuration file.
        run: Some1<At<String>>,
        /// Time that it may take.
        timeout: Span = "10s",
        /// Time after which it is run again; the secret stays as it was if it then fails.
        every: Span = "5m",
    }
}
