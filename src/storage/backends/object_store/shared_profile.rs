//! The access keys of a profile in AWS's shared files, `~/.aws/credentials` and `~/.aws/config`.
//!
//! Keys in the files work. Profiles that obtain their keys elsewhere (another role, single sign-on,
//! a process) are refused by name, because each needs a client of another service.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use crate::storage::error::StorageError;

/// The profile that is used if none is named.
const DEFAULT_PROFILE: &str = "default";
/// The role that a profile assumes.
const ROLE: &str = "role_arn";
/// Properties of profiles whose keys come from elsewhere.
const UNSUPPORTED: [&str; 4] =
    ["credential_process", "sso_session", "sso_start_url", "web_identity_token_file"];

/// The access keys and the region of a profile.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SharedProfile {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
    pub(crate) region: Option<String>,
}

/// The paths of the two files.
#[derive(Debug, Clone)]
pub(crate) struct SharedFiles {
    credentials: PathBuf,
    config: PathBuf,
}

impl SharedFiles {
    /// Returns the paths that the environment names, or the usual ones. The client of S3 reads the
    /// same environment.
    pub(crate) fn of_environment() -> Self {
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
        let path = |variable: Option<OsString>, name: &str| {
            variable.map_or_else(|| home.join(".aws").join(name), PathBuf::from)
        };
        Self {
            credentials: path(env::var_os("AWS_SHARED_CREDENTIALS_FILE"), "credentials"),
            config: path(env::var_os("AWS_CONFIG_FILE"), "config"),
        }
    }

    /// Reads the profile `name`.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or if the profile does not exist or has no keys.
    pub(crate) fn read(&self, name: &str) -> Result<SharedProfile, StorageError> {
        let fail = |why| Err(StorageError::Profile { profile: name.to_owned(), why });
        let mut properties = BTreeMap::new();
        for (path, section) in
            [(&self.config, config_section(name)), (&self.credentials, name.to_owned())]
        {
            match fs::read_to_string(path) {
                Ok(text) => properties.extend(properties_of(&text, &section)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    return fail(format!("cannot be read from {}: {error}", path.display()));
                }
            }
        }
        let (credentials, config) = (self.credentials.display(), self.config.display());
        let unsupported = |property: &str| {
            fail(format!(
                "uses {property}, which dogiqa does not support; write access keys into \
                 {credentials}, or use a web identity or the role of the container or instance"
            ))
        };
        // A role takes precedence over the keys, which only assume it.
        if properties.contains_key(ROLE) {
            return unsupported(ROLE);
        }
        if let (Some(id), Some(secret)) =
            (properties.remove("aws_access_key_id"), properties.remove("aws_secret_access_key"))
        {
            return Ok(SharedProfile {
                access_key_id: id,
                secret_access_key: secret,
                session_token: properties.remove("aws_session_token"),
                region: properties.remove("region"),
            });
        }
        if let Some(property) = UNSUPPORTED.iter().find(|name| properties.contains_key(**name)) {
            return unsupported(property);
        }
        fail(format!("has no access keys in {credentials} or {config}; add them or choose another"))
    }

    /// Reads the default profile. Returns `None` if it has no keys: it was not asked for by name.
    pub(crate) fn read_default(&self) -> Option<SharedProfile> {
        self.read(DEFAULT_PROFILE).ok()
    }
}

/// Returns the profile that the environment names.
pub(crate) fn environment_profile() -> Option<String> {
    let name = env::var_os("AWS_PROFILE")?;
    Some(name.to_string_lossy().trim().to_owned()).filter(|name| !name.is_empty())
}

fn config_section(profile: &str) -> String {
    if profile == DEFAULT_PROFILE { profile.to_owned() } else { format!("profile {profile}") }
}

/// Returns the properties of a section. Indented lines belong to a nested property.
fn properties_of(text: &str, section: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    let mut is_in_section = false;
    for line in text.lines() {
        if let Some(rest) = line.trim().strip_prefix('[') {
            let name = rest.split(']').next().unwrap_or_default();
            is_in_section = name.split_whitespace().eq(section.split_whitespace());
            continue;
        }
        if !is_in_section || line.starts_with(['#', ';', ' ', '\t']) {
            continue;
        }
        if let Some((name, value)) = line.split_once('=') {
            // A comment after a value follows a space.
            let value = value.split(" #").next().unwrap_or_default().trim();
            if !value.is_empty() {
                properties.insert(name.trim().to_ascii_lowercase(), value.to_owned());
            }
        }
    }
    properties
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn files(credentials: &str, config: &str) -> (TempDir, SharedFiles) {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("credentials"), credentials).unwrap();
        fs::write(path("config"), config).unwrap();
        let files = SharedFiles { credentials: path("credentials"), config: path("config") };
        (folder, files)
    }

    #[test]
    fn a_profile_has_its_keys_and_its_region() {
        let credentials = "# keys\n[default]\naws_access_key_id=D\naws_secret_access_key=DS\n\
                           [ images ]\r\nAWS_ACCESS_KEY_ID = I\r\naws_secret_access_key = a=b/c # x\n\
                           aws_session_token = T\n";
        let config = "[profile images]\nregion = eu-west-1\ns3 =\n  max_concurrent_requests = 1\n";
        let (_folder, files) = files(credentials, config);
        let images = files.read("images").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(images.access_key_id, "I");
        assert_eq!(images.secret_access_key, "a=b/c");
        assert_eq!(images.session_token.as_deref(), Some("T"));
        assert_eq!(images.region.as_deref(), Some("eu-west-1"));
        let default = files.read_default().map(|profile| profile.secret_access_key);
        assert_eq!(default.as_deref(), Some("DS"));
    }

    #[test]
    fn a_profile_that_cannot_be_used_is_named_with_the_reason() {
        let (_folder, files) = files("", "[profile sso]\nsso_session = s\n[profile empty]\n");
        let why = |profile| files.read(profile).err().unwrap().to_string();
        assert!(
            why("sso").contains("`sso` uses sso_session, which dogiqa does not"),
            "{}",
            why("sso")
        );
        assert!(why("empty").contains("`empty` has no access keys"), "{}", why("empty"));
        assert!(why("absent").contains("`absent` has no access keys"), "{}", why("absent"));
        assert!(files.read_default().is_none());
    }
}
