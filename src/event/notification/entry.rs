//! The entries of a record: images to assess, and events that need no answer.

use crate::event::error::ReferenceError;
use crate::event::notification::sequencer::Sequencer;
use crate::event::reference::ImageReference;

/// One entry of a record.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordEntry {
    /// The content of the entry.
    pub entry: Entry,
    /// The value of a record with this entry only, for its dead letter. `None` if the record has no
    /// other entry.
    pub alone: Option<Box<[u8]>>,
}

/// The content of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A request to assess an image.
    Reference(Box<ImageReference>),
    /// An object that was created or overwritten.
    Object(Box<CreatedObject>),
    /// An event that needs no answer.
    Skipped {
        /// The reason.
        reason: SkipReason,
        /// URI and position of a removal, which explains the absence of the object.
        removed: Option<(String, Sequencer)>,
    },
    /// An entry that cannot be parsed.
    Invalid(ReferenceError),
}

/// An object that was created or overwritten.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedObject {
    /// The request to assess it.
    pub reference: ImageReference,
    /// Its key, decoded.
    pub key: String,
    /// Its media type, if the notification has it.
    pub content_type: Option<String>,
    /// The storage account of Azure.
    pub account: Option<String>,
    /// Position of the event among those of the object.
    pub sequencer: Option<Sequencer>,
}

/// The reason why an entry needs no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// The object was removed.
    Removed,
    /// The event is neither a creation nor a removal.
    OtherEvent,
    /// The store tests the connection.
    Test,
    /// The list of entries is empty.
    Empty,
    /// The key ends with a slash: a folder.
    Folder,
    /// `storage.keys.include` or `exclude` leaves the key out.
    Key,
    /// `storage.keys.content_types` leaves the media type out.
    ContentType,
    /// The object is gone or overwritten, and a later event of it was received.
    Superseded,
}

impl SkipReason {
    /// Returns the name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::OtherEvent => "other_event",
            Self::Test => "test",
            Self::Empty => "empty",
            Self::Folder => "folder",
            Self::Key => "key",
            Self::ContentType => "content_type",
            Self::Superseded => "superseded",
        }
    }
}

impl Entry {
    /// Wraps a reason without an object.
    pub(crate) fn skipped(reason: SkipReason) -> Self {
        Self::Skipped { reason, removed: None }
    }

    /// Returns the reference of an image to assess.
    pub fn reference(&self) -> Option<&ImageReference> {
        match self {
            Self::Reference(reference) => Some(reference),
            Self::Object(object) => Some(&object.reference),
            Self::Skipped { .. } | Self::Invalid(_) => None,
        }
    }
}
