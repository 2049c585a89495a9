//! Gives a changed password to all clients of a worker.

use std::sync::Arc;

use crate::stream::broker::sasl_login::SaslLogin;
use crate::stream::intake::commits::Committer;
use crate::stream::intake::group_consumer::GroupConsumer;
use crate::stream::output::publisher::Publisher;

/// The login of the clients, and the client that nothing else of the polling thread uses.
pub(crate) struct ClientLogin {
    pub(crate) login: Arc<SaslLogin>,
    /// The producer of the shadow.
    pub(crate) shadow: Option<Publisher>,
}

impl ClientLogin {
    /// Makes the clients log in again if the password has changed. Blocks briefly to read it.
    pub(crate) fn renew(&self, consumer: &GroupConsumer, committer: &mut Committer) {
        let Some(credentials) = self.login.renewed() else { return };
        consumer.log_in(&credentials);
        committer.log_in(&credentials);
        if let Some(shadow) = &self.shadow {
            shadow.log_in(&credentials);
        }
    }
}
