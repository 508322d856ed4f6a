/*
 * QuPath 0.5 or later: show glomeruli.geojson on the open image, each class in its colour.
 * Glomeruli that the image already has are replaced; other annotations stay.
 *   In QuPath: Automate > Script editor > Run, then choose the file.
 *   Without its windows: QuPath script import_glomeruli.groovy --image SLIDE --args OUT/glomeruli.geojson
 */
import qupath.fx.dialogs.FileChoosers
import qupath.lib.io.PathIO
import qupath.lib.objects.classes.PathClass

import static qupath.lib.scripting.QP.*

def colours = [
    normal             : makeRGB(0, 160, 70),
    segmental_sclerosis: makeRGB(255, 165, 0),
    global_sclerosis   : makeRGB(200, 30, 60),
]

def file = args ? new File(args[0]) :
    FileChoosers.promptForFile("Glomeruli", FileChoosers.createExtensionFilter("GeoJSON", "*.geojson", "*.json"))
if (file == null) {
    return
}
def server = getCurrentServer()
def glomeruli = PathIO.readObjects(file)
def outside = glomeruli.find { glomerulus ->
    def roi = glomerulus.getROI()
    // One pixel of rounding.
    roi.getBoundsX() < -1 || roi.getBoundsY() < -1 ||
        roi.getBoundsX() + roi.getBoundsWidth() > server.getWidth() + 1 ||
        roi.getBoundsY() + roi.getBoundsHeight() > server.getHeight() + 1
}
if (outside != null) {
    throw new IllegalArgumentException("${file}: an outline lies outside of the image, which is " +
        "${server.getWidth()} x ${server.getHeight()} px; open the slide that was segmented, without --no-crop")
}
// QuPath keeps the colour that a class had when it first saw the name.
colours.each { name, rgb -> PathClass.fromString(name).setColor(rgb) }
def old = getAnnotationObjects().findAll { it.getPathClass() != null && it.getPathClass().toString() in colours.keySet() }
removeObjects(old, true)
addObjects(glomeruli)
fireHierarchyUpdate()
println "${file}: ${glomeruli.size()} glomeruli shown, ${old.size()} replaced"
