//! The settings that differ from their defaults, by their names in the configuration.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// Lists every setting of `current` that differs from `default`, as `section.key` and its value.
///
/// `section` is the name of the settings in the configuration; empty for all of them.
pub(crate) fn changed_settings<T: Serialize>(
    section: &str,
    current: &T,
    default: &T,
) -> BTreeMap<String, Value> {
    let json = |settings| serde_json::to_value(settings).expect("settings are texts and numbers");
    let mut changed = BTreeMap::new();
    collect(section, json(current), Some(&json(default)), &mut changed);
    changed
}

fn collect(
    key: &str,
    current: Value,
    default: Option<&Value>,
    changed: &mut BTreeMap<String, Value>,
) {
    match current {
        Value::Object(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                collect(&key, value, default.and_then(|table| table.get(&name)), changed);
            }
        }
        value if Some(&value) != default => {
            changed.insert(key.to_owned(), value);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{MaskBonus, ObjectsSettings, ObjectsWhen, RegionSettings, Settings};

    #[test]
    fn only_changed_settings_are_listed_by_their_names() {
        let default = Settings::default();
        let regions = RegionSettings { area_min_px: 1000, ..RegionSettings::default() };
        let objects = ObjectsSettings { when: ObjectsWhen::Never, ..ObjectsSettings::default() };
        let mut current = Settings { regions, objects, ..default.clone() };
        current.aggregation.mask_bonus = MaskBonus::Each(0.1);
        let changed = changed_settings("method", &current, &default);
        let listed: Vec<String> =
            changed.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            listed,
            [
                "method.aggregation.mask_bonus=0.1",
                "method.objects.when=\"never\"",
                "method.regions.area_min_px=1000",
            ]
        );
        assert!(changed_settings("", &default, &default).is_empty());
    }
}
