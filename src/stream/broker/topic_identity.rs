//! Identity of a topic: the metadata of committed offsets.
//!
//! A topic that is created again keeps its name, and a worker that has not noticed it commits
//! positions of the deleted one. The brokers accept them for the new one. The metadata tells them
//! apart.

/// Id of a topic, and the id of its cluster: tools that mirror committed offsets to another cluster
/// copy their metadata, and the same topic has another id there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicIdentity {
    metadata: String,
}

impl TopicIdentity {
    /// Neither id contains a space.
    pub(crate) fn new(cluster_id: &str, topic_id: &str) -> Self {
        Self { metadata: format!("{cluster_id} {topic_id}") }
    }

    /// Returns the metadata of offsets that are committed for the topic.
    pub(crate) fn metadata(&self) -> &str {
        &self.metadata
    }

    /// Returns true if an offset with this metadata belongs to another topic of the cluster. False
    /// if the metadata names no topic, because an older version or another tool committed it.
    pub(crate) fn is_of_another_topic(&self, metadata: &str) -> bool {
        let cluster_id = |metadata: &str| metadata.split_once(' ').map(|(id, _)| id.to_owned());
        metadata != self.metadata && cluster_id(metadata) == cluster_id(&self.metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metadata_of_the_same_cluster_names_another_topic() {
        let identity = TopicIdentity::new("4L6g3nShT-eMCtK--X86sw", "5WGfxdMbQhGlFYpTW8B9fg");
        for (metadata, expected) in [
            ("4L6g3nShT-eMCtK--X86sw HUbsPpK1TX+6tA0mDLCnIw", true),
            ("4L6g3nShT-eMCtK--X86sw 5WGfxdMbQhGlFYpTW8B9fg", false),
            ("another-cluster HUbsPpK1TX+6tA0mDLCnIw", false),
            ("HUbsPpK1TX+6tA0mDLCnIw", false),
            ("", false),
        ] {
            assert_eq!(identity.is_of_another_topic(metadata), expected, "{metadata}");
        }
    }
}
