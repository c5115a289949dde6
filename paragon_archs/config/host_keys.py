"""Keys that BasicSR's own classes read, as its code has them.

The host has no list of its keys. This one is held to its source by a test, which reads
every class; a class that is none of these may read anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SetKeys:
    """What a data set reads, in words between blanks.

    `needed` it cannot do without, `cropped` only where it crops, for training;
    `optional` the rest.
    """

    needed: str
    cropped: str
    optional: str


# Class -> what its own code reads of the options, `section:key` or a key on top.
MODELS: dict[str, str] = {
    "BaseModel": (
        "dist find_unused_parameters is_train num_gpu path rank train val world_size "
        "path:models path:training_states train:scheduler val:metrics"
    ),
    "EDVRModel": "train train:dcn_lr_mul train:optim_g train:tsa_iter",
    "ESRGANModel": "",
    "HiFaceGANModel": (
        "network_g:type dist is_train name network_d network_g path train val "
        "path:visualization train:ema_decay train:feature_matching_opt train:gan_opt "
        "train:net_d_init_iters train:net_d_iters train:optim_d train:optim_g "
        "train:perceptual_opt train:pixel_opt val:metrics val:suffix"
    ),
    "RealESRGANModel": (
        "gan_gt_usm gaussian_noise_prob gaussian_noise_prob2 gray_noise_prob "
        "gray_noise_prob2 gt_size high_order_degradation jpeg_range jpeg_range2 "
        "l1_gt_usm noise_range noise_range2 percep_gt_usm poisson_scale_range "
        "poisson_scale_range2 queue_size resize_prob resize_prob2 resize_range "
        "resize_range2 scale second_blur_prob"
    ),
    "RealESRNetModel": (
        "gaussian_noise_prob gaussian_noise_prob2 gray_noise_prob gray_noise_prob2 "
        "gt_size gt_usm high_order_degradation jpeg_range jpeg_range2 noise_range "
        "noise_range2 poisson_scale_range poisson_scale_range2 queue_size resize_prob "
        "resize_prob2 resize_range resize_range2 scale second_blur_prob"
    ),
    "SRGANModel": (
        "network_d network_g path train path:param_key_d path:pretrain_network_d "
        "path:pretrain_network_g path:strict_load_d path:strict_load_g train:ema_decay "
        "train:gan_opt train:ldl_opt train:net_d_init_iters train:net_d_iters "
        "train:optim_d train:optim_g train:perceptual_opt train:pixel_opt"
    ),
    "SRModel": (
        "is_train name network_g path rank train val path:param_key_g "
        "path:pretrain_network_g path:strict_load_g path:visualization train:ema_decay "
        "train:optim_g train:perceptual_opt train:pixel_opt val:metrics val:pbar "
        "val:suffix"
    ),
    "StyleGAN2Model": (
        "network_d:type network_g:num_style_feat network_g:type is_train name "
        "network_d network_g path rank train val path:param_key_d path:param_key_g "
        "path:pretrain_network_d path:pretrain_network_g path:strict_load_d "
        "path:strict_load_g path:visualization train:gan_opt train:mixing_prob "
        "train:net_d_reg_every train:net_g_reg_every train:optim_d train:optim_g "
        "train:path_batch_shrink train:path_reg_weight train:r1_reg_weight "
        "val:num_val_samples"
    ),
    "SwinIRModel": "network_g:window_size network_g scale",
    "VideoBaseModel": (
        "dist is_train name path val path:visualization val:metrics val:suffix"
    ),
    "VideoGANModel": "",
    "VideoRecurrentGANModel": (
        "network_d network_g path train path:param_key_d path:pretrain_network_d "
        "path:pretrain_network_g path:strict_load_d path:strict_load_g train:ema_decay "
        "train:fix_flow train:gan_opt train:lr_flow train:net_d_init_iters "
        "train:net_d_iters train:optim_d train:optim_g train:perceptual_opt "
        "train:pixel_opt"
    ),
    "VideoRecurrentModel": (
        "dist is_train name path train val path:visualization train:fix_flow "
        "train:flow_lr_mul train:optim_g val:center_frame_only val:flip_seq "
        "val:metrics"
    ),
}

SETS: dict[str, SetKeys] = {
    "FFHQDataset": SetKeys(
        "dataroot_gt io_backend mean std",
        "use_hflip",
        "",
    ),
    "PairedImageDataset": SetKeys(
        "dataroot_gt dataroot_lq io_backend",
        "gt_size use_hflip use_rot",
        "color filename_tmpl mean meta_info_file std",
    ),
    "REDSDataset": SetKeys(
        (
            "dataroot_flow dataroot_gt dataroot_lq interval_list io_backend "
            "meta_info_file num_frame random_reverse val_partition"
        ),
        "gt_size use_hflip use_rot",
        "",
    ),
    "REDSRecurrentDataset": SetKeys(
        (
            "dataroot_gt dataroot_lq io_backend meta_info_file num_frame test_mode "
            "val_partition"
        ),
        "gt_size use_hflip use_rot",
        "dataroot_flow interval_list random_reverse",
    ),
    "RealESRGANDataset": SetKeys(
        (
            "betag_range betag_range2 betap_range betap_range2 blur_kernel_size "
            "blur_kernel_size2 blur_sigma blur_sigma2 dataroot_gt final_sinc_prob "
            "io_backend kernel_list kernel_list2 kernel_prob kernel_prob2 meta_info "
            "sinc_prob sinc_prob2"
        ),
        "use_hflip use_rot",
        "",
    ),
    "RealESRGANPairedDataset": SetKeys(
        "dataroot_gt dataroot_lq io_backend",
        "gt_size use_hflip use_rot",
        "filename_tmpl mean meta_info std",
    ),
    "SingleImageDataset": SetKeys(
        "dataroot_lq io_backend",
        "",
        "color mean meta_info_file std",
    ),
    "VideoRecurrentTestDataset": SetKeys(
        "",
        "",
        (
            "cache_data dataroot_gt dataroot_lq io_backend meta_info_file name "
            "num_frame padding"
        ),
    ),
    "VideoTestDUFDataset": SetKeys(
        "cache_data dataroot_gt dataroot_lq io_backend name num_frame",
        "padding use_duf_downsampling",
        "meta_info_file",
    ),
    "VideoTestDataset": SetKeys(
        "cache_data dataroot_gt dataroot_lq io_backend name num_frame",
        "padding",
        "meta_info_file",
    ),
    "VideoTestVimeo90KDataset": SetKeys(
        "cache_data dataroot_gt dataroot_lq io_backend meta_info_file name num_frame",
        "",
        "padding",
    ),
    "Vimeo90KDataset": SetKeys(
        "dataroot_gt dataroot_lq io_backend meta_info_file num_frame random_reverse",
        "gt_size use_hflip use_rot",
        "",
    ),
    "Vimeo90KRecurrentDataset": SetKeys(
        "flip_sequence",
        "gt_size use_hflip use_rot",
        "dataroot_gt dataroot_lq io_backend meta_info_file num_frame random_reverse",
    ),
}
