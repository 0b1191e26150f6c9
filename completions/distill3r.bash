# bash completion of distill3r; made by `python -m distill3r_cli.completions`; do not edit

_distill3r() {
    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"
    local path="" word words="" options="" commands=""
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case "$path/$word" in
            /doctor|/demo|/manifest|/train|/infer|/view|/convert|/eval|/models|/models/list|/models/path|/models/download|/cache|/cache/info|/cache/verify|/cache/compare|/cache/merge|/cache/export|/cache/import|/bench|/bench/cache|/bench/train|/bench/ablation) path="$path/$word" ;;
        esac
    done
    COMPREPLY=()
    case "$path:$previous" in
        /demo:--output|/demo:-o|/demo:--scenes|/demo:--seed|/demo:--config|/demo:--set|/demo:--plugin|/manifest:--output|/manifest:-o|/manifest:--views|/manifest:--stride|/manifest:--samples-per-scene|/manifest:--sample-frac|/manifest:--val-scenes|/manifest:--val-frames|/manifest:--resize-max|/manifest:--poses|/manifest:--depth-scale|/manifest:--intrinsics-size|/manifest:--teacher-rate|/manifest:--seed|/manifest:--config|/manifest:--set|/manifest:--plugin|/train:--cache|/train:--cache-weight|/train:--output|/train:-o|/train:--max-steps|/train:--epochs|/train:--max-hours|/train:--from|/train:--scene|/train:--recompute|/train:--gpus|/train:--seed|/train:--config|/train:--set|/train:--plugin|/infer:--model|/infer:-m|/infer:--compare|/infer:--format|/infer:--output|/infer:-o|/infer:--size|/infer:--fps|/infer:--max-views|/infer:--head|/infer:--conf|/infer:--edges|/infer:--voxel|/infer:--max-points|/infer:--cloud|/infer:--poses|/infer:--intrinsics|/infer:--scale-from|/infer:--seed|/infer:--config|/infer:--set|/infer:--plugin|/view:--host|/view:--port|/convert:--plugin|/eval:--data|/eval:--protocol|/eval:--size|/eval:--poses|/eval:--depth-scale|/eval:--intrinsics-size|/eval:--output|/eval:-o|/eval:--config|/eval:--set|/eval:--plugin|/models/list:--plugin|/models/path:--plugin|/models/download:--plugin|/cache:--manifest|/cache:--output|/cache:-o|/cache:--weights|/cache:--size|/cache:--threshold|/cache:--features|/cache:--shard|/cache:--seed|/cache:--config|/cache:--set|/cache:--plugin|/cache/info:--picture|/cache/info:--sample|/cache/verify:--manifest|/cache/verify:--recompute|/cache/verify:--weights|/cache/verify:--seed|/cache/verify:--plugin|/cache/compare:--manifest|/cache/compare:--plugin|/cache/merge:--output|/cache/merge:-o|/cache/export:--output|/cache/export:-o|/cache/export:--format|/cache/import:--output|/cache/import:-o|/cache/import:--images|/cache/import:--license|/bench:--views|/bench:--size|/bench:--model|/bench:-m|/bench:--compare|/bench:--budget|/bench:--head|/bench:--output|/bench:-o|/bench:--seed|/bench:--config|/bench:--set|/bench:--plugin|/bench/cache:--frames|/bench/cache:--views|/bench/cache:--samples|/bench/cache:--rounds|/bench/cache:--workers|/bench/cache:--output|/bench/cache:-o|/bench/cache:--config|/bench/cache:--set|/bench/cache:--plugin|/bench/train:--batch|/bench/train:--views|/bench/train:--size|/bench/train:--rounds|/bench/train:--recompute|/bench/train:--compare|/bench/train:--output|/bench/train:-o|/bench/train:--seed|/bench/train:--config|/bench/train:--set|/bench/train:--plugin|/bench/ablation:--study|/bench/ablation:--seeds|/bench/ablation:--steps|/bench/ablation:--scenes|/bench/ablation:--processes|/bench/ablation:--output|/bench/ablation:-o|/bench/ablation:--seed|/bench/ablation:--config|/bench/ablation:--set|/bench/ablation:--plugin) return ;;
        /demo:--device|/train:--device|/infer:--device|/eval:--device|/cache:--device|/cache/verify:--device|/bench:--device|/bench/train:--device) words="auto cpu cuda mps" ;;
        /manifest:--layout|/eval:--layout) words="auto pattern video 12scenes 7scenes co3d scannetpp habitat matterport megadepth megadepth-undistorted blendedmvs arkitscenes dtu stereolunar tum scannet polycam record3d strayscanner open3d nerfstudio colmap rgbd images" ;;
        /manifest:--pose-convention|/eval:--pose-convention) words="c2w w2c" ;;
        /manifest:--pose-axes|/eval:--pose-axes) words="opencv opengl" ;;
        /train:--preset|/bench:--preset|/bench/train:--preset) words="paper small tiny lunar-s1 lunar-s2 lunar-s3 lunar-s4 pair-tiny scene-cnn scene-mobilenet scene-vit" ;;
        /infer:--precision|/bench:--precision) words="auto float32 bfloat16" ;;
        /eval:--predict) words="student truth constant" ;;
        /cache:--teacher|/cache/import:--teacher) words="auto depth synthetic fast3r da3-small da3-base da3-large vggt pi3 mast3r dust3r-512-dpt dust3r-512-linear dust3r-224-linear student" ;;
        /cache:--fit) words="squash crop release" ;;
    esac
    if [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$current"))
        return
    fi
    case "$path" in
        "")
            options="--version --help-all -h --help"
            commands="doctor demo manifest train infer view convert eval models cache bench" ;;
        "/doctor")
            options="--json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/demo")
            options="--output -o --scenes --seed --device --overwrite --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/manifest")
            options="--output -o --layout --views --stride --samples-per-scene --sample-frac --val-scenes --val-frames --images-only --ignore-masks --resize-max --link --pose-convention --pose-axes --poses --depth-scale --intrinsics-size --trust --check --preview --dry-run --teacher-rate --overwrite --seed --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/train")
            options="--cache --cache-weight --output -o --preset --max-steps --epochs --max-hours --resume --from --scene --allow-missing --recompute --gpus --overwrite --yes --seed --device --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/infer")
            options="--model -m --compare --ply --format --output -o --size --fps --max-views --ignore-masks --keep-exif --each --head --conf --edges --voxel --max-points --cloud --poses --pnp --refine --no-refine --strict --intrinsics --shared-camera --scale-from --precision --compile --overwrite --device --seed --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/view")
            options="--host --port --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/convert")
            options="--overwrite --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/eval")
            options="--data --layout --protocol --predict --colmap --no-colmap --refine --no-refine --size --poses --pose-convention --pose-axes --depth-scale --intrinsics-size --trust --output -o --device --overwrite --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/models")
            options="-h --help --help-all"
            commands="list path download" ;;
        "/models/list")
            options="--plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/models/path")
            options="--plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/models/download")
            options="--plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/cache")
            options="--manifest --output -o --teacher --weights --size --fit --threshold --pairs --features --resume --dry-run --shard --device --seed --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="info verify compare merge export import" ;;
        "/cache/info")
            options="--picture --sample --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/cache/verify")
            options="--manifest --recompute --weights --repair --device --seed --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/cache/compare")
            options="--manifest --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/cache/merge")
            options="--output -o --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/cache/export")
            options="--output -o --format --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/cache/import")
            options="--output -o --images --teacher --license --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/bench")
            options="--views --size --preset --model -m --compare --budget --precision --head --output -o --device --seed --overwrite --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="cache train ablation" ;;
        "/bench/cache")
            options="--frames --views --samples --rounds --workers --output -o --overwrite --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/bench/train")
            options="--preset --batch --views --size --rounds --recompute --compare --output -o --device --seed --overwrite --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
        "/bench/ablation")
            options="--study --seeds --steps --scenes --processes --output -o --seed --overwrite --config --set --print-config --plugin --json -q --quiet -v --verbose --debug --no-color --help-all -h --help"
            commands="" ;;
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
    else
        COMPREPLY=($(compgen -W "$commands" -- "$current"))
    fi
}

complete -o bashdefault -o default -F _distill3r distill3r
