/*
 * QuPath 0.5 or later: write the annotations of the open image to GeoJSON that the bundle reads: corrected glomeruli as
 * labels for training (scripts/prepare_data.py), for DICOM (scripts/to_dicom.py), for the MONAI Label server.
 * Only classified annotations that have an area are written; of nested ones each.
 *   In QuPath: Automate > Script editor > Run, then choose the file.
 *   Without its windows: QuPath script export_glomeruli.groovy --project PROJECT.qpproj --args FOLDER
 *   which writes FOLDER/IMAGE.geojson for every image of the project.
 */
import qupath.fx.dialogs.FileChoosers
import qupath.lib.common.GeneralTools
import qupath.lib.io.PathIO

import static qupath.lib.scripting.QP.*

def name = GeneralTools.stripExtension(getCurrentServer().getMetadata().getName()) + ".geojson"
def file = args ? new File(args[0], name) : FileChoosers.promptToSaveFile("Glomeruli", new File(name),
    FileChoosers.createExtensionFilter("GeoJSON", "*.geojson"))
if (file == null) {
    return
}
def all = getAnnotationObjects()
def written = all.findAll { it.getROI().isArea() && it.getPathClass() != null }
PathIO.exportObjectsAsGeoJSON(file, written, PathIO.GeoJsonExportOptions.FEATURE_COLLECTION)
println "${file}: ${written.size()} annotations written, ${all.size() - written.size()} without class or area left out"
