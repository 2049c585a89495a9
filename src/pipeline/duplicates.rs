//! Finds images that look like one of the last images of the same tenant, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::event::{DuplicateOf, ID_CHARS_MAX, ImageReference, Metadata};
use crate::imaging::PerceptualHash;

/// Maximum bytes of an entry: the id in UTF-8, its hash, and the pointers to it.
const ENTRY_BYTES_MAX: u64 = 4 * ID_CHARS_MAX as u64 + 64;
/// Bytes of a tenant besides its entries.
const TENANT_BYTES: u64 = 256;

/// Maximum of `last`. That many comparisons take less than half a millisecond.
const LAST_MAX: usize = 10_000;

/// Settings of the search for duplicates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DuplicateSettings {
    /// Number of the last images of a tenant that an image is compared with, at most 10000; 0 is
    /// off. Images of HTTP requests have no duplicates and are none. Each worker
    /// remembers the images that it scored itself since its start: with the tenant as the key of
    /// the input records, that is every image of the tenant.
    #[serde(deserialize_with = "at_most_last_max")]
    pub last: usize,
    /// Maximum number of different bits, 0 to 64. Copies in another size or compression differ in 0
    /// to 3 bits; different products in front of the same background may differ in few more.
    pub distance: u32,
    /// Field of the reference's `metadata` that names the tenant. Images without it share a tenant,
    /// as do all images if this is empty.
    pub tenant: String,
    /// Maximum number of tenants; the one whose last image is the oldest is forgotten.
    pub tenants_max: usize,
}

impl Default for DuplicateSettings {
    fn default() -> Self {
        Self { last: 0, distance: 3, tenant: "tenant".to_owned(), tenants_max: 100 }
    }
}

fn at_most_last_max<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let last = usize::deserialize(deserializer)?;
    if last > LAST_MAX {
        return Err(D::Error::custom(format!("{last} is above the maximum of {LAST_MAX}")));
    }
    Ok(last)
}

impl DuplicateSettings {
    /// Returns the maximum memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let images = (self.last as u64).saturating_mul(ENTRY_BYTES_MAX);
        let tenant = images.saturating_add(TENANT_BYTES);
        if self.last == 0 { 0 } else { tenant.saturating_mul(self.tenants_max as u64) }
    }
}

/// The last images of each tenant.
#[derive(Debug)]
pub(crate) struct Duplicates {
    settings: DuplicateSettings,
    tenants: Mutex<Tenants>,
}

#[derive(Debug, Default)]
struct Tenants {
    /// By the digest of the tenant's name, which has a bounded size.
    last: HashMap<[u8; 32], Tenant>,
    images: u64,
}

#[derive(Debug, Default)]
struct Tenant {
    /// The oldest image first.
    images: VecDeque<SeenImage>,
    /// Number of the image that was added last, among those of all tenants.
    last_image: u64,
}

#[derive(Debug)]
struct SeenImage {
    id: Box<str>,
    hash: PerceptualHash,
}

impl Duplicates {
    pub(crate) fn new(settings: &DuplicateSettings) -> Self {
        Self { settings: settings.clone(), tenants: Mutex::default() }
    }

    /// Adds an image, and returns the most similar earlier one within the distance; the oldest of
    /// several. A redelivered reference gets its first answer again: it is compared with the images
    /// before it only. A flat picture is neither added nor a duplicate.
    pub(crate) fn observe(
        &self,
        reference: &ImageReference,
        phash: Option<&str>,
    ) -> Option<DuplicateOf> {
        let hash = phash.and_then(PerceptualHash::parse).filter(|hash| !hash.is_flat())?;
        if self.settings.last == 0 {
            return None;
        }
        let name = self.tenant_of(reference.metadata.as_ref());
        let mut tenants = self.tenants();
        let tenant = tenants.of(Sha256::digest(name).into(), self.settings.tenants_max);
        let images = &mut tenant.images;
        let mut position = images.iter().position(|seen| *seen.id == *reference.id);
        if let Some(changed) = position.take_if(|at| images[*at].hash != hash) {
            images.remove(changed);
        }
        let earlier = images.iter().take(position.unwrap_or(images.len()));
        let nearest = earlier.map(|seen| (seen.hash.distance(hash), seen));
        let found = nearest
            .filter(|(distance, _)| *distance <= self.settings.distance)
            .min_by_key(|(distance, _)| *distance)
            .map(|(distance, seen)| DuplicateOf { id: seen.id.to_string(), distance });
        if position.is_none() {
            if images.len() == self.settings.last {
                images.pop_front();
            }
            images.push_back(SeenImage { id: reference.id.as_str().into(), hash });
        }
        found
    }

    fn tenant_of(&self, metadata: Option<&Metadata>) -> String {
        let name = &self.settings.tenant;
        let fields = metadata.filter(|_| !name.is_empty()).map(Metadata::to_map);
        match fields.and_then(|mut fields| fields.remove(name)) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn tenants(&self) -> MutexGuard<'_, Tenants> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenants {
    /// Returns a tenant's images. A new tenant may replace the one whose last image is the oldest.
    fn of(&mut self, name: [u8; 32], tenants_max: usize) -> &mut Tenant {
        self.images += 1;
        if !self.last.contains_key(&name) && self.last.len() >= tenants_max.max(1) {
            let oldest = self.last.iter().min_by_key(|(_, tenant)| tenant.last_image);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                self.last.remove(&oldest);
            }
        }
        let tenant = self.last.entry(name).or_default();
        tenant.last_image = self.images;
        tenant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duplicates(last: usize, tenants_max: usize) -> Duplicates {
        let settings =
            DuplicateSettings { last, distance: 2, tenants_max, ..DuplicateSettings::default() };
        Duplicates::new(&settings)
    }

    fn observe(
        duplicates: &Duplicates,
        id: &str,
        tenant: &str,
        bits: u64,
    ) -> Option<(String, u32)> {
        let mut reference = ImageReference::new("s3://photos/a.png");
        reference.id = id.to_owned();
        reference.metadata = serde_json::from_str(&format!(r#"{{"tenant":{tenant}}}"#)).unwrap();
        let phash = format!("{bits:016x}");
        duplicates.observe(&reference, Some(&phash)).map(|found| (found.id, found.distance))
    }

    #[test]
    fn the_nearest_of_the_last_images_of_the_same_tenant_is_named() {
        let seen = duplicates(3, 10);
        assert_eq!(observe(&seen, "a", "1", 0xff00), None);
        assert_eq!(observe(&seen, "b", "1", 0xff03), Some(("a".to_owned(), 2)));
        assert_eq!(observe(&seen, "c", "1", 0xff07), Some(("b".to_owned(), 1)));
        assert_eq!(observe(&seen, "d", "2", 0xff00), None, "another tenant");
        assert_eq!(observe(&seen, "e", "\"1\"", 0xff00), Some(("a".to_owned(), 0)), "1 is \"1\"");
        // The ring holds b, c and e; a is forgotten.
        assert_eq!(observe(&seen, "f", "1", 0xff00), Some(("e".to_owned(), 0)));
        assert_eq!(observe(&seen, "g", "1", 0x00ff), None);
    }

    #[test]
    fn a_redelivered_reference_is_no_duplicate_of_itself_nor_of_later_images() {
        let seen = duplicates(5, 10);
        assert_eq!(observe(&seen, "a", "1", 0xff00), None);
        assert_eq!(observe(&seen, "a", "1", 0xff00), None);
        assert_eq!(observe(&seen, "b", "1", 0xff00), Some(("a".to_owned(), 0)));
        assert_eq!(observe(&seen, "a", "1", 0xff00), None);
        assert_eq!(observe(&seen, "b", "1", 0xff00), Some(("a".to_owned(), 0)));
        // Under the same id there is another image now.
        assert_eq!(observe(&seen, "a", "1", 0xf0f0), None);
        assert_eq!(observe(&seen, "c", "1", 0xff00), Some(("b".to_owned(), 0)));
    }

    #[test]
    fn the_tenant_that_was_seen_last_stays() {
        let seen = duplicates(5, 2);
        observe(&seen, "a", "1", 0xff00);
        observe(&seen, "b", "2", 0xff00);
        observe(&seen, "c", "1", 0x00ff);
        observe(&seen, "d", "3", 0xff00);
        assert_eq!(observe(&seen, "e", "1", 0xff00), Some(("a".to_owned(), 0)));
        assert_eq!(observe(&seen, "f", "2", 0xff00), None, "it was forgotten");
        assert!(seen.tenants().last.len() == 2);
    }

    #[test]
    fn flat_pictures_and_a_search_that_is_off_remember_nothing() {
        let seen = duplicates(5, 2);
        assert_eq!(observe(&seen, "a", "1", 0), None);
        assert_eq!(observe(&seen, "b", "1", 0), None);
        let off = duplicates(0, 2);
        observe(&off, "a", "1", 0xff00);
        assert_eq!(observe(&off, "b", "1", 0xff00), None);
        assert!(off.tenants().last.is_empty() && off.settings.memory() == 0);
        assert_eq!(seen.settings.memory(), 2 * (5 * (4096 + 64) + 256));
    }
}
