//! The topics as an AsyncAPI 3 document, from the view of this service: it receives references and
//! sends events and dead letters. The document embeds the schemas of `messages`.

use serde_json::{Value, json};

use crate::event::cloudevent_headers::QUALITY_EVENT_TYPE;
use crate::event::schema::examples;
use crate::event::schema::messages as schemas;

/// Version of the Kafka bindings that the document uses.
const BINDING_VERSION: &str = "0.5.0";

/// Returns the document. Topics have their default names, which the configuration may change.
pub(crate) fn document() -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Dog-IQA",
            "version": "1.0.0",
            "description": "The service receives image references. It answers each with one \
                            quality event, which scores the image and every object in it, or with \
                            one dead letter, which has the reason. The answer has the key of the \
                            reference.",
            "license": {
                "name": "Apache-2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0"
            }
        },
        "defaultContentType": "application/json",
        "channels": channels(),
        "operations": operations(),
        "components": {
            "messages": messages(),
            "schemas": schemas::for_asyncapi()
        }
    })
}

fn channels() -> Value {
    let channel = |address: &str, description: &str, messages: &[&str]| {
        let messages: serde_json::Map<String, Value> = messages
            .iter()
            .map(|name| {
                let reference = format!("#/components/messages/{name}");
                ((*name).to_owned(), json!({ "$ref": reference }))
            })
            .collect();
        json!({
            "address": address,
            "description": description,
            "messages": messages,
            "bindings": { "kafka": { "topic": address, "bindingVersion": BINDING_VERSION } }
        })
    };
    json!({
        "imageReferences": channel(
            "image-references",
            "Images to assess. A record without a value is skipped. Notifications of object stores, \
             alone and in lists, and batches of CloudEvents are accepted too; their documents \
             describe them.",
            &["imageReference", "imageReferenceCloudEvent"],
        ),
        "imageQuality": channel(
            "image-quality",
            "Assessed images, one event for each reference that could be answered.",
            &["qualityEvent"],
        ),
        "deadLetters": channel(
            "image-quality-dead-letters",
            "Records that could not be answered, unchanged, with the reason in headers.",
            &["deadLetter"],
        ),
        "imageQualityShadow": channel(
            "image-quality-shadow",
            "Events of the same images by a second engine, for a share of the references. Only if \
             `engine.shadow` is configured; the topic has no default name.",
            &["shadowEvent"],
        )
    })
}

fn operations() -> Value {
    let operation = |action: &str, channel: &str, summary: &str| {
        json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{channel}") },
            "summary": summary
        })
    };
    let mut operations = json!({
        "receiveImageReference": operation(
            "receive",
            "imageReferences",
            "Receives a reference and answers it with a quality event or a dead letter.",
        ),
        "sendQualityEvent": operation("send", "imageQuality", "Reports the quality of one image."),
        "sendDeadLetter": operation(
            "send",
            "deadLetters",
            "Returns a record that could not be answered.",
        ),
        "sendShadowEvent": operation(
            "send",
            "imageQualityShadow",
            "Reports the quality of an answered image by the second engine.",
        )
    });
    let group = json!({ "type": "string", "description": "The configured consumer group." });
    operations["receiveImageReference"]["bindings"] =
        json!({ "kafka": { "groupId": group, "bindingVersion": BINDING_VERSION } });
    operations
}

fn messages() -> Value {
    json!({
        "imageReference": {
            "title": "Image reference",
            "summary": "Requests the assessment of one image; the headers may hold a trace, or the \
                        attributes of a CloudEvent in binary mode.",
            "contentType": "application/json",
            "bindings": key("Any bytes; the answer has the same key. Default: the reference's id."),
            "payload": schema("ImageReference"),
            "examples": [
                { "name": "smallest", "payload": examples::smallest_reference() },
                { "name": "full", "payload": examples::full_reference() }
            ]
        },
        "imageReferenceCloudEvent": {
            "title": "Image reference as a structured CloudEvent",
            "summary": "The same in an envelope; data_base64 is accepted as well as data.",
            "contentType": "application/cloudevents+json",
            "bindings": key("Any bytes; the answer has the same key. Default: the reference's id."),
            "payload": {
                "type": "object",
                "required": ["specversion", "id", "source", "type", "data"],
                "properties": {
                    "specversion": { "type": "string", "pattern": "^1\\." },
                    "id": { "type": "string", "minLength": 1 },
                    "source": { "type": "string", "minLength": 1 },
                    "type": { "type": "string", "minLength": 1 },
                    "data": schema("ImageReference")
                }
            },
            "examples": [{ "name": "structured", "payload": examples::structured_reference() }]
        },
        "qualityEvent": {
            "name": QUALITY_EVENT_TYPE,
            "title": "Quality event",
            "summary": "Quality of one image, as a whole and object by object.",
            "contentType": "application/json",
            "bindings": key("The key of the reference's record."),
            "headers": schemas::quality_event_headers(),
            "payload": schema("QualityEvent"),
            "examples": [{
                "name": "photo",
                "headers": examples::event_headers(),
                "payload": examples::event()
            }]
        },
        "shadowEvent": shadow_event(),
        "deadLetter": {
            "title": "Dead letter",
            "summary": "An unchanged record, which can be sent again byte for byte. Of a record that \
                        named several objects, the value has the failed one only.",
            "contentType": "application/octet-stream",
            "bindings": key("The key of the record."),
            "headers": schemas::dead_letter_headers(),
            "payload": { "description": "The value of the record, whatever it was." },
            "examples": [{
                "name": "notFound",
                "headers": examples::dead_letter_headers(),
                "payload": examples::smallest_reference()
            }]
        }
    })
}

fn shadow_event() -> Value {
    json!({
        "name": QUALITY_EVENT_TYPE,
        "title": "Quality event of a shadow",
        "summary": "The quality event of a second engine, with an id of its own and without \
                    masks, measures and duplicate_of. reference and source are those of the \
                    answer.",
        "contentType": "application/json",
        "bindings": key("The key of the answer."),
        "headers": schemas::shadow_event_headers(),
        "payload": schema("QualityEvent"),
        "examples": [{
            "name": "photo",
            "headers": examples::shadow_event_headers(),
            "payload": examples::shadow_event()
        }]
    })
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Returns the bindings of a message whose key has this description.
fn key(description: &str) -> Value {
    let key = json!({ "type": "string", "description": description });
    json!({ "kafka": { "key": key, "bindingVersion": BINDING_VERSION } })
}
