"""Words about change since an earlier study, in every language: `Wording.terms` and `Wording.comparisons` hold them."""

from __future__ import annotations

from collections.abc import Mapping

from polyclinic.core import codes
from polyclinic.departments.reading.wording import CodeKey, key

ENGLISH_TERMS: Mapping[CodeKey, str] = {
    key(codes.NODULE_CHANGE): "change since the earlier study",
    key(codes.NODULE_NEW): "new",
    key(codes.NODULE_GROWN): "grown",
    key(codes.NODULE_STABLE): "stable",
    key(codes.NODULE_DECREASED): "decreased",
    key(codes.PRIOR_MEAN_DIAMETER): "mean diameter before",
    key(codes.PRIOR_VOLUME): "volume before",
    key(codes.PRIOR_INTERVAL): "interval",
    key(codes.VOLUME_CHANGE): "change of volume",
    key(codes.DOUBLING_TIME): "volume doubling time",
    key(codes.RESOLVED_NODULE): "nodule of the earlier study no longer seen",
}
ENGLISH: Mapping[str, str] = {
    "compared": "Compared with the study of {date}{interval}: {quality}.",
    "compared-undated": "Compared with an earlier study without date{interval}: {quality}.",
    "interval": ", {days} days before",
    "quality": "both lungs were registered, their surfaces lie {residual} apart (median)",
    "on-file": "Earlier studies of {dates} are on file.",
    "not-compared": "No automatic comparison with the study of {date}: {reason}.",
    "not-compared-undated": "No automatic comparison with an earlier study without date: {reason}.",
    "new": "New since the earlier study.",
    "grown": "Grown: {sizes}.",
    "stable": "Stable: {sizes}.",
    "decreased": "Decreased: {sizes}.",
    "diameters": "mean diameter {before} mm before, {now} mm now",
    "volumes": "volume {before} mm³ before, {now} mm³ now ({percent}%)",
    "doubling": "volume doubling time {days} days",
    "resolved": "{site}: a nodule of the earlier study ({size}) is no longer seen.",
    "changes": "Since the earlier study: {groups}.",
    "group-new": "{subject} new",
    "group-grown": "{subject} grown",
    "group-decreased": "{subject} decreased",
    "group-stable": "{subject} stable",
    "lung-rads": (
        "If this is a lung cancer screening examination: Lung-RADS v2022 category {category} by size, type and change "
        "since the earlier study ({subject})."
    ),
    "lung-rads-at-least": (
        "If this is a lung cancer screening examination: Lung-RADS v2022 category {category} or higher by size, type "
        "and change since the earlier study ({subject}); category and follow-up depend on the nodules without category."
    ),
    "lung-rads-nodules": (
        "Lung-RADS v2022 by nodule, if this is a lung cancer screening examination, compared with the earlier study: "
        "{groups}."
    ),
}
CHINESE_TERMS: Mapping[CodeKey, str] = {
    key(codes.NODULE_CHANGE): "与既往检查比较",
    key(codes.NODULE_NEW): "新发",
    key(codes.NODULE_GROWN): "增大",
    key(codes.NODULE_STABLE): "稳定",
    key(codes.NODULE_DECREASED): "缩小",
    key(codes.PRIOR_MEAN_DIAMETER): "既往平均直径",
    key(codes.PRIOR_VOLUME): "既往体积",
    key(codes.PRIOR_INTERVAL): "间隔时间",
    key(codes.VOLUME_CHANGE): "体积变化",
    key(codes.DOUBLING_TIME): "体积倍增时间",
    key(codes.RESOLVED_NODULE): "既往结节未再显示",
}
CHINESE: Mapping[str, str] = {
    "compared": "与{date}检查{interval}对比：{quality}。",
    "compared-undated": "与一次日期不明的既往检查{interval}对比：{quality}。",
    "interval": "（间隔{days}天）",
    "quality": "双肺已配准，肺表面中位距离{residual}",
    "on-file": "存有{dates}的既往检查。",
    "not-compared": "未与{date}检查进行自动对比：{reason}。",
    "not-compared-undated": "未与一次日期不明的既往检查进行自动对比：{reason}。",
    "new": "较既往检查为新发。",
    "grown": "增大：{sizes}。",
    "stable": "稳定：{sizes}。",
    "decreased": "缩小：{sizes}。",
    "diameters": "平均直径既往{before} mm，本次{now} mm",
    "volumes": "体积既往{before} mm³，本次{now} mm³（{percent}%）",
    "doubling": "体积倍增时间{days}天",
    "resolved": "{site}：既往检查所见结节（{size}）本次未再显示。",
    "changes": "与既往检查比较：{groups}。",
    "group-new": "{subject}为新发",
    "group-grown": "{subject}增大",
    "group-decreased": "{subject}缩小",
    "group-stable": "{subject}稳定",
    "lung-rads": (
        "若本检查为肺癌筛查：结合大小、密度类型及与既往检查的变化，为Lung-RADS v2022 {category}类（{subject}）。"
    ),
    "lung-rads-at-least": (
        "若本检查为肺癌筛查：结合大小、密度类型及与既往检查的变化，"
        "至少为Lung-RADS v2022 {category}类（{subject}）；最终分类及随访取决于未能分类的结节。"
    ),
    "lung-rads-nodules": "若本检查为肺癌筛查，与既往检查对比后各结节Lung-RADS v2022分类：{groups}。",
}
