//! The names of SAM 2's tensors in a checkpoint of the Hub. The network requests them by the
//! original names of facebookresearch/sam2.

use crate::checkpoints::weights::StoredTensor;

/// Rows of the table in which the Hub keeps the embeddings of points.
const POINT_EMBEDDINGS: usize = 4;

/// Original and Hub prefixes of the tensors that images do not use: the video path, and the score
/// for the presence of an object.
const UNUSED: [&str; 19] = [
    "sam_mask_decoder.pred_obj_score_head.",
    "mask_decoder.pred_obj_score_head.",
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "memory_temporal_positional_encoding",
    "no_mem_pos_enc",
    "no_memory_positional_encoding",
    "no_obj_ptr",
    "no_object_pointer",
    "obj_ptr_proj.",
    "object_pointer_proj.",
    "mask_downsample.",
    "no_obj_embed_spatial",
    "occlusion_spatial_embedding_parameter",
    "obj_ptr_tpos_proj.",
    "temporal_positional_encoding_projection_layer.",
    // A second copy of `shared_image_embedding.positional_embedding`.
    "prompt_encoder.shared_embedding.",
    "_metadata",
];

/// Returns true if a tensor, in either naming, is not used for images.
pub(crate) fn is_unused(name: &str) -> bool {
    UNUSED.iter().any(|prefix| name.starts_with(prefix))
}

/// Maps an original name to the Hub's tensor, or to the row of one in which the Hub joins several.
pub(crate) fn stored_on_hub(original: &str) -> StoredTensor {
    if let Some(index) = original
        .strip_prefix("sam_prompt_encoder.point_embeddings.")
        .and_then(|rest| rest.strip_suffix(".weight"))
        .and_then(|index| index.parse().ok())
    {
        let name = "prompt_encoder.point_embed.weight".to_owned();
        return StoredTensor { name, row: Some((index, POINT_EMBEDDINGS)) };
    }
    let mut name = original.to_owned();
    for (from, to) in PARTS {
        if name.contains(from) {
            name = name.replacen(from, to, 1);
        }
    }
    if !name.starts_with("vision_encoder.neck") {
        name = rename_head_layers(&name);
    }
    StoredTensor { name, row: None }
}

/// Parts of names that differ, in the order of their replacement.
const PARTS: [(&str, &str); 24] = [
    ("image_encoder.trunk.", "vision_encoder.backbone."),
    ("image_encoder.neck.", "vision_encoder.neck."),
    ("patch_embed.proj.", "patch_embed.projection."),
    (".conv.", "."),
    ("no_mem_embed", "no_memory_embedding"),
    (
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "shared_image_embedding.positional_embedding",
    ),
    ("sam_prompt_encoder.mask_downscaling.0.", "prompt_encoder.mask_embed.conv1."),
    ("sam_prompt_encoder.mask_downscaling.1.", "prompt_encoder.mask_embed.layer_norm1."),
    ("sam_prompt_encoder.mask_downscaling.3.", "prompt_encoder.mask_embed.conv2."),
    ("sam_prompt_encoder.mask_downscaling.4.", "prompt_encoder.mask_embed.layer_norm2."),
    ("sam_prompt_encoder.mask_downscaling.6.", "prompt_encoder.mask_embed.conv3."),
    ("sam_prompt_encoder.", "prompt_encoder."),
    ("sam_mask_decoder.output_upscaling.0.", "mask_decoder.upscale_conv1."),
    ("sam_mask_decoder.output_upscaling.1.", "mask_decoder.upscale_layer_norm."),
    ("sam_mask_decoder.output_upscaling.3.", "mask_decoder.upscale_conv2."),
    ("sam_mask_decoder.", "mask_decoder."),
    (".out_proj.", ".o_proj."),
    (".norm_final_attn.", ".layer_norm_final_attn."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".norm3.", ".layer_norm3."),
    (".norm4.", ".layer_norm4."),
    (".mlp.layers.0.", ".mlp.proj_in."),
    (".mlp.layers.1.", ".mlp.proj_out."),
];

/// Renames the three layers of a head: the Hub's `layers.0` is the original's second layer.
fn rename_head_layers(name: &str) -> String {
    let is_head = ["output_hypernetworks_mlps.", "iou_prediction_head."]
        .iter()
        .any(|head| name.contains(head));
    if !is_head {
        return name.to_owned();
    }
    for (from, to) in [(".layers.0.", ".proj_in."), (".layers.2.", ".proj_out.")] {
        if name.contains(from) {
            return name.replacen(from, to, 1);
        }
    }
    name.replacen(".layers.1.", ".layers.0.", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_tensor_has_its_hub_name() {
        for (original, hub) in [
            (
                "image_encoder.trunk.patch_embed.proj.bias",
                "vision_encoder.backbone.patch_embed.projection.bias",
            ),
            (
                "image_encoder.trunk.blocks.3.norm1.weight",
                "vision_encoder.backbone.blocks.3.layer_norm1.weight",
            ),
            (
                "image_encoder.trunk.blocks.3.attn.proj.bias",
                "vision_encoder.backbone.blocks.3.attn.proj.bias",
            ),
            (
                "image_encoder.trunk.blocks.1.mlp.layers.1.bias",
                "vision_encoder.backbone.blocks.1.mlp.proj_out.bias",
            ),
            ("image_encoder.neck.convs.0.conv.weight", "vision_encoder.neck.convs.0.weight"),
            (
                "sam_mask_decoder.transformer.layers.1.norm4.bias",
                "mask_decoder.transformer.layers.1.layer_norm4.bias",
            ),
            (
                "sam_mask_decoder.transformer.layers.0.mlp.layers.0.bias",
                "mask_decoder.transformer.layers.0.mlp.proj_in.bias",
            ),
            (
                "sam_mask_decoder.transformer.norm_final_attn.bias",
                "mask_decoder.transformer.layer_norm_final_attn.bias",
            ),
            (
                "sam_mask_decoder.iou_prediction_head.layers.1.bias",
                "mask_decoder.iou_prediction_head.layers.0.bias",
            ),
            (
                "sam_mask_decoder.iou_prediction_head.layers.2.bias",
                "mask_decoder.iou_prediction_head.proj_out.bias",
            ),
        ] {
            assert_eq!(stored_on_hub(original), StoredTensor::whole(hub));
        }
        let joined = stored_on_hub("sam_prompt_encoder.point_embeddings.2.weight");
        let name = "prompt_encoder.point_embed.weight".to_owned();
        assert_eq!(joined, StoredTensor { name, row: Some((2, 4)) });
    }
}
