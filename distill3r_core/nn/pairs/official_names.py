"""Names in the official weight files of DUSt3R and MASt3R, and in ours."""

from distill3r_core.nn.names import Pairs, dpt_names

UNREAD = ("mask_token",)  # belongs to CroCo's pretraining
FIRST, SECOND = "dec_blocks.", "dec_blocks2."
DESCRIPTORS = ("downstream_head1.head_local_features.", "downstream_head2.head_local_features.")

NAMES: Pairs = (
    ("patch_embed.", "encoder.embed."),
    ("enc_blocks.", "encoder.blocks."),
    ("enc_norm.", "encoder.norm."),
    ("decoder_embed.", "decoder.embed."),
    (FIRST, "decoder.first."),
    (SECOND, "decoder.second."),
    ("dec_norm.", "decoder.norm."),
    *dpt_names("downstream_head1.dpt.", "point_heads.0."),
    *dpt_names("downstream_head2.dpt.", "point_heads.1."),
    ("downstream_head1.proj.", "point_heads.0.proj."),
    ("downstream_head2.proj.", "point_heads.1.proj."),
    (DESCRIPTORS[0], "descriptor_heads.0."),
    (DESCRIPTORS[1], "descriptor_heads.1."),
)
